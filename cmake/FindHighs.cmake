# Finds the linear-programming solver HiGHS: where -DHIGHS_ROOT says, in the system, or in the Python package highsbox of
# GIMBAL_PYTHON. Only the C interface is used, so that the compiler's C++ ABI does not matter. Defines the imported target
# `highs` and HIGHS_LIBRARY.
include(GimbalPython)

execute_process(
  COMMAND "${GIMBAL_PYTHON}" -c
          "import importlib.util,pathlib;print(pathlib.Path(importlib.util.find_spec('highsbox').origin).parent/'highs_dist')"
  OUTPUT_VARIABLE _highsbox OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _highsbox_result ERROR_QUIET)
if(NOT _highsbox_result EQUAL 0)
  set(_highsbox "")
endif()
find_path(HIGHS_INCLUDE_DIR interfaces/highs_c_api.h
  HINTS "${HIGHS_ROOT}/include/highs" PATHS "${_highsbox}/include/highs" PATH_SUFFIXES highs)
find_library(HIGHS_LIBRARY highs HINTS "${HIGHS_ROOT}/lib" PATHS "${_highsbox}/lib")
if(NOT HIGHS_INCLUDE_DIR OR NOT HIGHS_LIBRARY)
  message(FATAL_ERROR "HiGHS was not found. Run scripts/setup, or install the Python package highsbox for ${GIMBAL_PYTHON}, "
                      "or set -DHIGHS_ROOT=/path/to/highs.")
endif()
get_filename_component(_highs_file "${HIGHS_LIBRARY}" REALPATH)
get_filename_component(HIGHS_LIB_DIR "${HIGHS_LIBRARY}" DIRECTORY)

if(NOT TARGET highs)
  add_library(highs SHARED IMPORTED GLOBAL)
  set_target_properties(highs PROPERTIES
    IMPORTED_LOCATION "${HIGHS_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${HIGHS_INCLUDE_DIR}")
endif()
message(STATUS "HiGHS: ${_highs_file}")
