# Finds libtorch through the Python that has torch installed, without TorchConfig.cmake (which asks for a CUDA toolkit when the
# wheel is a CUDA one). Defines the imported target `libtorch`, LIBTORCH_VERSION, LIBTORCH_HAS_CUDA and LIBTORCH_LIB_DIR.
include(GimbalPython)

# find_spec does not import torch, so this takes milliseconds.
execute_process(
  COMMAND "${GIMBAL_PYTHON}" -c
          "import importlib.util,pathlib;print(pathlib.Path(importlib.util.find_spec('torch').origin).parent)"
  OUTPUT_VARIABLE _torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _torch_result ERROR_QUIET)
if(NOT _torch_result EQUAL 0)
  message(FATAL_ERROR "torch is not installed for ${GIMBAL_PYTHON}. Run scripts/setup, or set -DGIMBAL_PYTHON=/path/to/python.")
endif()

file(STRINGS "${_torch_dir}/version.py" _version_line REGEX "^__version__")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" LIBTORCH_VERSION "${_version_line}")
if(LIBTORCH_VERSION VERSION_LESS "2.11" OR LIBTORCH_VERSION VERSION_GREATER_EQUAL "2.14")
  message(WARNING "torch ${LIBTORCH_VERSION} is outside the tested range 2.11 to 2.13.")
endif()

set(LIBTORCH_LIB_DIR "${_torch_dir}/lib")
set(LIBTORCH_HAS_CUDA OFF)
if(EXISTS "${LIBTORCH_LIB_DIR}/libtorch_cuda.so")
  set(LIBTORCH_HAS_CUDA ON)
endif()

if(NOT TARGET libtorch)
  add_library(libtorch INTERFACE IMPORTED GLOBAL)
  target_include_directories(libtorch SYSTEM INTERFACE
    "${_torch_dir}/include" "${_torch_dir}/include/torch/csrc/api/include")
  target_compile_definitions(libtorch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO AT_PER_OPERATOR_HEADERS)
  target_link_directories(libtorch INTERFACE "${LIBTORCH_LIB_DIR}")
  target_link_options(libtorch INTERFACE "-Wl,-rpath,${LIBTORCH_LIB_DIR}")
  if(LIBTORCH_HAS_CUDA)
    target_compile_definitions(libtorch INTERFACE USE_C10D_NCCL)
    target_link_libraries(libtorch INTERFACE -Wl,--no-as-needed torch torch_cpu torch_cuda c10_cuda c10 -Wl,--as-needed)
  else()
    target_link_libraries(libtorch INTERFACE -Wl,--no-as-needed torch torch_cpu c10 -Wl,--as-needed)
  endif()
endif()
message(STATUS "libtorch ${LIBTORCH_VERSION} (CUDA: ${LIBTORCH_HAS_CUDA})")
