# One static library per folder of src/gimbal: gimbal_library(base DEPENDS ...) makes the target gimbal_base out of every .cpp in
# src/gimbal/base and its sub-folders.
add_library(gimbal_options INTERFACE)
target_compile_options(gimbal_options INTERFACE -Wall -Wextra -Wconversion -Wshadow -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  # These compilers report std::string concatenations as overlapping copies (GCC bug 105651).
  target_compile_options(gimbal_options INTERFACE -Wno-restrict)
endif()
target_include_directories(gimbal_options INTERFACE "${CMAKE_SOURCE_DIR}/src")

function(gimbal_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/gimbal/${name}/*.cpp")
  if(sources)
    add_library(gimbal_${name} STATIC ${sources})
    target_link_libraries(gimbal_${name} PUBLIC gimbal_options ${ARG_DEPENDS})
    if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT GIMBAL_NO_UNITY)
      set_target_properties(gimbal_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
    endif()
  else()
    add_library(gimbal_${name} INTERFACE)
    target_link_libraries(gimbal_${name} INTERFACE gimbal_options ${ARG_DEPENDS})
  endif()
endfunction()
