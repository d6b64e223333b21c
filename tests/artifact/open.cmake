# SPDX-License-Identifier: Apache-2.0
# Tests of opening: what is missing, what is loaded, what foreign code does to the CUDA context.

set(fixtures ${CMAKE_CURRENT_BINARY_DIR}/fixtures)

# artifact_part(name FOLDER folder [FILE file] [LIBRARIES ...] [DEFINITIONS ...] [OPTIONS ...]): a shared
# library of part.c that finds nothing on its own.
function(artifact_part name)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "FOLDER;FILE;SONAME" "LIBRARIES;DEFINITIONS;OPTIONS")
  if(NOT ARG_FILE)
    set(ARG_FILE ${name})
  endif()
  add_library(artifact_${name} SHARED part.c)
  pega_compile_options(artifact_${name})
  target_compile_definitions(artifact_${name} PRIVATE PART="${name}" ${ARG_DEFINITIONS})
  set_target_properties(artifact_${name} PROPERTIES PREFIX "" OUTPUT_NAME ${ARG_FILE}
    LIBRARY_OUTPUT_DIRECTORY ${fixtures}/${ARG_FOLDER} BUILD_RPATH "" SKIP_BUILD_RPATH ON)
  target_link_options(artifact_${name} PRIVATE -Wl,--no-as-needed -Wl,--unresolved-symbols=ignore-all
    ${ARG_OPTIONS})
  if(ARG_SONAME)
    set_target_properties(artifact_${name} PROPERTIES NO_SONAME ON)
    target_link_options(artifact_${name} PRIVATE -Wl,-soname,${ARG_SONAME})
  endif()
  foreach(library IN LISTS ARG_LIBRARIES)
    target_link_libraries(artifact_${name} PRIVATE artifact_${library})
  endforeach()
  set(all ${artifact_parts})
  list(APPEND all artifact_${name})
  set(artifact_parts ${all} PARENT_SCOPE)
endfunction()

artifact_part(chain_c FOLDER libraries FILE libchain_c DEFINITIONS DEFINES=chain_c_value)
artifact_part(chain_b FOLDER libraries FILE libchain_b LIBRARIES chain_c
  DEFINITIONS DEFINES=chain_b_value CALLS=chain_c_value)
artifact_part(chain_a FOLDER . LIBRARIES chain_b DEFINITIONS CALLS=chain_b_value)
artifact_part(chain_b_alone FOLDER partial FILE libchain_b LIBRARIES chain_c
  DEFINITIONS DEFINES=chain_b_value CALLS=chain_c_value)
artifact_part(renamed FOLDER renamed FILE libchain_b SONAME libother.so
  DEFINITIONS DEFINES=chain_b_value)
# A library that is nowhere, but for the moments in which the test puts it somewhere.
artifact_part(place FOLDER stand_in FILE libplace DEFINITIONS DEFINES=place_value)
artifact_part(wants_place FOLDER . LIBRARIES place DEFINITIONS CALLS=place_value)
set_target_properties(artifact_wants_place PROPERTIES SKIP_BUILD_RPATH OFF BUILD_WITH_INSTALL_RPATH ON
  INSTALL_RPATH "\$ORIGIN/places/\$LIB;\${ORIGIN}/places/\${PLATFORM};\$ORIGIN/places/own")
target_link_options(artifact_wants_place PRIVATE -Wl,--enable-new-dtags)
# One that goes by the name of a library of the system, and has the file before it.
artifact_part(ranked FOLDER places/own FILE libBrokenLocale SONAME libBrokenLocale.so.1
  DEFINITIONS DEFINES=ranked_value)
set_target_properties(artifact_ranked PROPERTIES SUFFIX .so.1)
artifact_part(wants_ranked FOLDER . LIBRARIES ranked DEFINITIONS CALLS=ranked_value)
set_target_properties(artifact_wants_ranked PROPERTIES SKIP_BUILD_RPATH OFF
  BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "\$ORIGIN/places/own")
target_link_options(artifact_wants_ranked PRIVATE -Wl,--enable-new-dtags)
artifact_part(pipe FOLDER stand_in FILE libpipe SONAME ${fixtures}/pipe DEFINITIONS DEFINES=pipe_value)
artifact_part(wants_pipe FOLDER . LIBRARIES pipe DEFINITIONS CALLS=pipe_value)
artifact_part(lacks_symbol FOLDER . DEFINITIONS CALLS=not_defined_anywhere)
artifact_part(wants_extra FOLDER . DEFINITIONS CALLS=chain_c_value)
artifact_part(wants_hidden_newer FOLDER . LIBRARIES hidden DEFINITIONS CALLS=hidden_newer)
artifact_part(wants_hidden_oldest FOLDER . LIBRARIES hidden DEFINITIONS CALLS=hidden_oldest)
artifact_part(same_a FOLDER . DEFINITIONS DEFINES=same_value)
artifact_part(same_b FOLDER . DEFINITIONS DEFINES=same_value VALUE=2)

# A library with two versions of symbols, and an older one with the first alone.
file(WRITE ${fixtures}/new.map "PART_1.0 { global: first_value; local: *; };\nPART_2.0 { global: second_value; } PART_1.0;\n")
file(WRITE ${fixtures}/old.map "PART_1.0 { global: first_value; local: *; };\n")
artifact_part(versioned FOLDER new FILE libversioned DEFINITIONS DEFINES=second_value
  OPTIONS -Wl,--version-script=${fixtures}/new.map)
artifact_part(versioned_old FOLDER old FILE libversioned DEFINITIONS DEFINES=first_value
  OPTIONS -Wl,--version-script=${fixtures}/old.map)
artifact_part(wants_version FOLDER . LIBRARIES versioned DEFINITIONS CALLS=second_value)

# Two libraries that need each other: linked against stand-ins of the same names.
foreach(kind ring ring_runpath)
  artifact_part(${kind}_stand_in FOLDER ${kind}/stand_in FILE libring_b DEFINITIONS DEFINES=ring_b_value)
  artifact_part(${kind}_a FOLDER ${kind} FILE libring_a LIBRARIES ${kind}_stand_in
    DEFINITIONS DEFINES=ring_a_value)
  artifact_part(${kind}_b FOLDER ${kind} FILE libring_b LIBRARIES ${kind}_a
    DEFINITIONS DEFINES=ring_b_value)
endforeach()
set_target_properties(artifact_ring_runpath_a artifact_ring_runpath_b PROPERTIES
  SKIP_BUILD_RPATH OFF BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "\$ORIGIN")
target_link_options(artifact_ring_runpath_a PRIVATE -Wl,--enable-new-dtags)
target_link_options(artifact_ring_runpath_b PRIVATE -Wl,--enable-new-dtags)
artifact_part(wants_ring FOLDER . LIBRARIES ring_a DEFINITIONS CALLS=ring_a_value)

add_library(artifact_context_module MODULE context_module.c)
pega_compile_options(artifact_context_module)
set_target_properties(artifact_context_module PROPERTIES PREFIX "" OUTPUT_NAME context
  LIBRARY_OUTPUT_DIRECTORY ${fixtures})
list(APPEND artifact_parts artifact_context_module)
# What it does is seen neither in its symbols nor in its libraries.
add_library(artifact_hidden_module MODULE hidden_module.c)
pega_compile_options(artifact_hidden_module)
target_link_libraries(artifact_hidden_module PRIVATE ${CMAKE_DL_LIBS})
set_target_properties(artifact_hidden_module PROPERTIES PREFIX "" OUTPUT_NAME hidden
  LIBRARY_OUTPUT_DIRECTORY ${fixtures})
# It changes the context when it is loaded: several files, as each is loaded once.
foreach(kind loads loads_too loads_last)
  add_library(artifact_${kind} MODULE hidden_module.c)
  pega_compile_options(artifact_${kind})
  target_compile_definitions(artifact_${kind} PRIVATE WHEN_LOADED)
  target_link_libraries(artifact_${kind} PRIVATE ${CMAKE_DL_LIBS})
  set_target_properties(artifact_${kind} PROPERTIES PREFIX "" OUTPUT_NAME ${kind}
    LIBRARY_OUTPUT_DIRECTORY ${fixtures})
  list(APPEND artifact_parts artifact_${kind})
endforeach()
list(APPEND artifact_parts artifact_hidden_module)

add_library(artifact_tls_owner SHARED tls.c)
target_compile_definitions(artifact_tls_owner PRIVATE OWNS)
add_library(artifact_tls_user MODULE tls.c)
target_link_libraries(artifact_tls_user PRIVATE artifact_tls_owner)
set_target_properties(artifact_tls_owner artifact_tls_user PROPERTIES PREFIX ""
  LIBRARY_OUTPUT_DIRECTORY ${fixtures})
list(APPEND artifact_parts artifact_tls_owner artifact_tls_user)

# The same bytes but for the number of the architecture.
add_custom_command(OUTPUT ${fixtures}/foreign.so ${fixtures}/wrong/libchain_b.so
  DEPENDS artifact_chain_b artifact_lacks_symbol
  COMMAND ${CMAKE_COMMAND} -E make_directory ${fixtures}/wrong
  COMMAND ${CMAKE_COMMAND} -E copy ${fixtures}/lacks_symbol.so ${fixtures}/foreign.so
  COMMAND ${CMAKE_COMMAND} -E copy ${fixtures}/libraries/libchain_b.so ${fixtures}/wrong/libchain_b.so
  COMMAND sh -c "for f in foreign.so wrong/libchain_b.so; do printf '\\025\\000' | dd of=$f bs=1 seek=18 conv=notrunc 2>/dev/null; done"
  WORKING_DIRECTORY ${fixtures} VERBATIM)
add_custom_target(artifact_foreign DEPENDS ${fixtures}/foreign.so)
list(APPEND artifact_parts artifact_foreign)

function(artifact_open_test topic)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "SOURCES;LIBRARIES")
  pega_test(test_artifact_${topic} TEST_NAME artifact.${topic} TIMEOUT 120
    SOURCES test_${topic}.c module_loader.c ../core/support.c ${ARG_SOURCES}
    LIBRARIES pega_artifact Threads::Threads ${CMAKE_DL_LIBS} ${ARG_LIBRARIES}
    DEFINITIONS "FIXTURES=\"${fixtures}\""
    ENVIRONMENT "TSAN_OPTIONS=halt_on_error=1:suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.supp")
  add_dependencies(test_artifact_${topic} ${artifact_parts})
endfunction()
artifact_open_test(prerequisites)
artifact_open_test(open SOURCES ../pack/build.c ../pack/file.c LIBRARIES pega::nettle)
if(TARGET pega_fake_driver)
  artifact_open_test(context LIBRARIES pega_fake_driver)
  target_include_directories(test_artifact_context PRIVATE ${PROJECT_SOURCE_DIR}/src/fake_driver)
  pega_test(test_artifact_watch TEST_NAME artifact.watch
    SOURCES test_watch.c ../core/support.c ${PROJECT_SOURCE_DIR}/src/artifact/context.c
    ${PROJECT_SOURCE_DIR}/src/artifact/device.c ${PROJECT_SOURCE_DIR}/src/core/text.c
    LIBRARIES pega pega_fake_driver Threads::Threads ${CMAKE_DL_LIBS})
  target_include_directories(test_artifact_watch PRIVATE ${PROJECT_SOURCE_DIR}/src)
endif()
