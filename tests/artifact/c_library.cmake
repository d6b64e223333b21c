# SPDX-License-Identifier: Apache-2.0
# Libraries of plain C functions, and calls of code that throws.

# The project builds without a C++ compiler: what needs one is left out then.
include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER)
  enable_language(CXX)
  pega_test(test_artifact_foreign_call TEST_NAME artifact.foreign_call TIMEOUT 300
    SOURCES test_foreign_call.cc ${PROJECT_SOURCE_DIR}/src/artifact/foreign_call.c
    LIBRARIES Threads::Threads ${CMAKE_DL_LIBS})
  target_include_directories(test_artifact_foreign_call PRIVATE ${PROJECT_SOURCE_DIR}/src)
  add_library(artifact_throwing_fixture MODULE throwing_fixture.cc)
  # Sanitizers have a C++ runtime library of their own in the process: their options stay out.
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LINK_OPTIONS -static-libgcc -static-libstdc++)
  check_cxx_source_compiles("int main() { throw 1; }" PEGA_STATIC_CXX_RUNTIME)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  if(PEGA_STATIC_CXX_RUNTIME)
    pega_test(test_artifact_foreign_copies TEST_NAME artifact.foreign_copies
      SOURCES test_foreign_copies.c ../core/support.c ${PROJECT_SOURCE_DIR}/src/artifact/foreign_call.c
      LIBRARIES pega ${CMAKE_DL_LIBS})
    target_include_directories(test_artifact_foreign_copies PRIVATE ${PROJECT_SOURCE_DIR}/src)
    foreach(kind SHARED STATIC HIDDEN)
      string(TOLOWER artifact_${kind}_thrower thrower)
      add_library(${thrower} MODULE foreign_thrower.cc)
      set_target_properties(${thrower} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY
        ${CMAKE_CURRENT_BINARY_DIR}/c_library)
      target_compile_definitions(test_artifact_foreign_copies PRIVATE
        "${kind}_THROWER=\"$<TARGET_FILE:${thrower}>\"")
      add_dependencies(test_artifact_foreign_copies ${thrower})
    endforeach()
    target_link_options(artifact_static_thrower PRIVATE -static-libgcc -static-libstdc++)
    target_link_options(artifact_hidden_thrower PRIVATE -static-libgcc -static-libstdc++
      -Wl,--exclude-libs,ALL)
  endif()
endif()
add_library(artifact_c_fixture MODULE c_fixture.c)
foreach(fixture artifact_c_fixture artifact_throwing_fixture)
  if(TARGET ${fixture})
    pega_compile_options(${fixture})
    set_target_properties(${fixture} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY
      ${CMAKE_CURRENT_BINARY_DIR}/c_library)
  endif()
endforeach()

set(definitions "C_FIXTURE=\"$<TARGET_FILE:artifact_c_fixture>\"" "SCHEMA_FOLDER=\"${PROJECT_SOURCE_DIR}/docs\""
  "HIDDEN=\"$<TARGET_FILE:artifact_hidden>\"")
if(TARGET artifact_throwing_fixture)
  list(APPEND definitions "THROWING_FIXTURE=\"$<TARGET_FILE:artifact_throwing_fixture>\"")
endif()
pega_test(test_artifact_c_library TEST_NAME artifact.c_library TIMEOUT 600
  SOURCES test_c_library.c ../core/support.c ../core/allocations.c
  LIBRARIES pega_artifact Threads::Threads m ${CMAKE_DL_LIBS} DEFINITIONS ${definitions})
set_source_files_properties(../core/allocations.c PROPERTIES COMPILE_OPTIONS -fno-builtin)
add_dependencies(test_artifact_c_library artifact_c_fixture artifact_hidden)
if(TARGET artifact_throwing_fixture)
  add_dependencies(test_artifact_c_library artifact_throwing_fixture)
endif()

if(TARGET pega_fake_driver)
  add_library(artifact_cuda_fixture MODULE cuda_fixture.c)
  pega_compile_options(artifact_cuda_fixture)
  set_target_properties(artifact_cuda_fixture PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY
    ${CMAKE_CURRENT_BINARY_DIR}/c_library)
  target_link_libraries(artifact_cuda_fixture PRIVATE pega_fake_driver)
  add_library(artifact_handwritten_fixture MODULE handwritten_fixture.c)
  pega_compile_options(artifact_handwritten_fixture)
  set_target_properties(artifact_handwritten_fixture PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY
    ${CMAKE_CURRENT_BINARY_DIR}/c_library)
  pega_test(test_artifact_c_library_cuda TEST_NAME artifact.c_library_cuda
    SOURCES test_c_library_cuda.c ../core/support.c
    LIBRARIES pega_artifact pega_fake_driver ${CMAKE_DL_LIBS}
    DEFINITIONS "CUDA_FIXTURE=\"$<TARGET_FILE:artifact_cuda_fixture>\""
      "HANDWRITTEN_FIXTURE=\"$<TARGET_FILE:artifact_handwritten_fixture>\""
      "HANDWRITTEN_SIGNATURES=\"${PROJECT_SOURCE_DIR}/kernels/cuda/handwritten/libpegainfer_kernels_cuda.so.json\"")
  target_include_directories(test_artifact_c_library_cuda PRIVATE ${PROJECT_SOURCE_DIR}/src/fake_driver)
  add_dependencies(test_artifact_c_library_cuda artifact_cuda_fixture artifact_handwritten_fixture)
endif()
