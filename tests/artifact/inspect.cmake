# SPDX-License-Identifier: Apache-2.0
# What is read of files without loading them. The fixtures are small, so that each byte of them can be
# broken: no libc, one page for all that is read only.

# artifact_fixture(name SOURCE OPTION...): a shared library that nothing was added to.
function(artifact_fixture name source)
  add_library(${name} SHARED ${source})
  set_target_properties(${name} PROPERTIES C_STANDARD 11
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fixtures)
  target_compile_options(${name} PRIVATE -O1 -g0 -fno-stack-protector -fno-asynchronous-unwind-tables)
  target_link_options(${name} PRIVATE -nostdlib -s -Wl,-z,noseparate-code -Wl,-z,norelro
    -Wl,--build-id=none ${ARGN})
endfunction()

artifact_fixture(artifact_other fixture_other.c
  -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/fixture_other.map)
artifact_fixture(artifact_hidden fixture_hidden.c
  -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/fixture_hidden.map)
foreach(style gnu sysv)
  artifact_fixture(artifact_small_${style} fixture_small.c -Wl,--hash-style=${style}
    -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/fixture_small.map -Wl,--enable-new-dtags)
  target_link_libraries(artifact_small_${style} PRIVATE artifact_other)
  set_target_properties(artifact_small_${style} PROPERTIES BUILD_WITH_INSTALL_RPATH ON
    INSTALL_RPATH "$ORIGIN/elsewhere;/nowhere")
endforeach()
artifact_fixture(artifact_silent fixture_silent.c -Wl,--hash-style=gnu)
target_link_libraries(artifact_silent PRIVATE artifact_other)
add_library(artifact_aborts SHARED fixture_aborts.c)
set_target_properties(artifact_aborts PROPERTIES
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fixtures)
add_library(artifact_object OBJECT fixture_small.c)

set(fixtures
  "SMALL=\"$<TARGET_FILE:artifact_small_gnu>\"" "SMALL_SYSV=\"$<TARGET_FILE:artifact_small_sysv>\""
  "OTHER=\"$<TARGET_FILE:artifact_other>\""
  "HIDDEN=\"$<TARGET_FILE:artifact_hidden>\"" "SILENT=\"$<TARGET_FILE:artifact_silent>\""
  "ABORTS=\"$<TARGET_FILE:artifact_aborts>\"" "OBJECT=\"$<TARGET_OBJECTS:artifact_object>\"")

# The readers are hidden in the library: these tests have their own.
artifact_test(elf SOURCES bytes.c ${PROJECT_SOURCE_DIR}/src/artifact/elf.c
  LIBRARIES pega::libelf DEFINITIONS ${fixtures})
artifact_test(gpu_code SOURCES bytes.c ${PROJECT_SOURCE_DIR}/src/artifact/gpu_code.c)
artifact_test(inspect SOURCES bytes.c DEFINITIONS ${fixtures})
foreach(topic elf gpu_code inspect)
  target_include_directories(test_artifact_${topic} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  add_dependencies(test_artifact_${topic} artifact_small_gnu artifact_small_sysv artifact_other
    artifact_hidden artifact_silent artifact_aborts artifact_object)
endforeach()
