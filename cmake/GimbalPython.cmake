# The Python whose packages hold libtorch, HiGHS and pybind11: GIMBAL_PYTHON; by default the one that builds the package (`pip
# install`), else .venv/bin/python of the source tree, else python3.
if(NOT GIMBAL_PYTHON)
  if(SKBUILD AND Python_EXECUTABLE)
    set(GIMBAL_PYTHON "${Python_EXECUTABLE}")
  elseif(EXISTS "${CMAKE_SOURCE_DIR}/.venv/bin/python")
    set(GIMBAL_PYTHON "${CMAKE_SOURCE_DIR}/.venv/bin/python")
  else()
    find_program(GIMBAL_PYTHON python3 REQUIRED)
  endif()
endif()
