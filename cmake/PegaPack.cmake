# SPDX-License-Identifier: Apache-2.0
#[[
Puts a kernel pack into a program or library, so that there is no file to find at run time:

    find_package(pega REQUIRED)
    pega_embed_pack(engine PACK kernels.pegapack SYMBOL engine_kernels)

The target gets the pack's bytes as read-only data, aligned to 64 bytes, and a header for them:

    #include "engine_kernels.h"   // extern const unsigned char engine_kernels[];
                                  // extern const size_t engine_kernels_size;

    pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
    options.data = engine_kernels;
    options.size = engine_kernels_size;
    options.flags = PEGA_PACK_STATIC;   // used in place; never where the code may be unloaded

The symbols are hidden: they are seen inside the target alone. PACK is relative to the current source
folder; it may be made by a custom command of the same folder, or by a target that <target> depends on.
It is embedded again when it changes. Needs gcc or clang for 64-bit Linux and no other tool.
#]]
function(pega_embed_pack target)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "PACK;SYMBOL" "")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "pega_embed_pack(${target}): unknown arguments: ${ARG_UNPARSED_ARGUMENTS}; "
                        "expected pega_embed_pack(<target> PACK <file> SYMBOL <name>)")
  endif()
  if(NOT ARG_PACK OR NOT ARG_SYMBOL)
    message(FATAL_ERROR "pega_embed_pack(${target}): expected pega_embed_pack(<target> PACK <file> SYMBOL <name>)")
  endif()
  if(NOT TARGET ${target})
    message(FATAL_ERROR "pega_embed_pack(${target}): there is no target of this name")
  endif()
  if(NOT ARG_SYMBOL MATCHES "^[A-Za-z_][A-Za-z0-9_]*$")
    message(FATAL_ERROR "pega_embed_pack(${target}): SYMBOL is '${ARG_SYMBOL}', expected a C identifier")
  endif()
  get_filename_component(pack "${ARG_PACK}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  if(IS_DIRECTORY "${pack}")
    message(FATAL_ERROR "pega_embed_pack(${target}): ${pack} is a folder; embed the file form of the pack")
  endif()
  get_source_file_property(generated "${pack}" GENERATED)
  if(EXISTS "${pack}")
    file(READ "${pack}" magic LIMIT 8 HEX)
    if(NOT magic STREQUAL "504547415041434b")
      message(FATAL_ERROR "pega_embed_pack(${target}): ${pack} is no pack: it does not begin with PEGAPACK")
    endif()
  elseif(NOT generated)
    message(FATAL_ERROR "pega_embed_pack(${target}): ${pack} is not there, and nothing in this folder makes it")
  endif()

  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if("C" IN_LIST languages)
    set(extension c)
  elseif("CXX" IN_LIST languages)
    set(extension cc)
  else()
    message(FATAL_ERROR "pega_embed_pack(${target}): the project enables neither C nor CXX")
  endif()

  # Inside a string of the assembler, inside a string of C.
  string(REPLACE "\\" "\\\\\\\\" quoted "${pack}")
  string(REPLACE "\"" "\\\\\\\"" quoted "${quoted}")
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/pega_pack/${target}")
  set(source "${folder}/${ARG_SYMBOL}.${extension}")
  set(_symbol "${ARG_SYMBOL}")
  file(CONFIGURE OUTPUT "${folder}/${ARG_SYMBOL}.h" @ONLY CONTENT [[
/* Made by pega_embed_pack(): a kernel pack inside this target. */
#ifndef PEGA_EMBEDDED_@_symbol@_H_
#define PEGA_EMBEDDED_@_symbol@_H_

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
extern const unsigned char @_symbol@[];
extern const size_t @_symbol@_size;
#ifdef __cplusplus
}
#endif
#endif
]])
  file(CONFIGURE OUTPUT "${source}" @ONLY CONTENT [[
/* Made by pega_embed_pack(). */
#include "@_symbol@.h"

__asm__(".pushsection .rodata.@_symbol@, \"a\", %progbits\n"
        ".balign 64\n"
        ".globl @_symbol@\n"
        ".hidden @_symbol@\n"
        ".type @_symbol@, %object\n"
        "@_symbol@:\n"
        ".incbin \"@quoted@\"\n"
        ".L@_symbol@_end:\n"
        ".size @_symbol@, . - @_symbol@\n"
        ".balign 8\n"
        ".globl @_symbol@_size\n"
        ".hidden @_symbol@_size\n"
        ".type @_symbol@_size, %object\n"
        "@_symbol@_size:\n"
        ".quad .L@_symbol@_end - @_symbol@\n"
        ".size @_symbol@_size, 8\n"
        ".popsection\n");
]])
  target_sources(${target} PRIVATE "${source}")
  target_include_directories(${target} PRIVATE "${folder}")
  # Link-time optimisation does not see symbols that the assembler makes.
  set_source_files_properties("${source}" TARGET_DIRECTORY ${target}
    PROPERTIES OBJECT_DEPENDS "${pack}" COMPILE_OPTIONS "-fno-lto")
endfunction()
