# How everything here is compiled: standard, visibility, warnings, sanitizers.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 99)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

# An interface target, so that warnings and sanitizers never leak into a consumer.
add_library(otr_compile INTERFACE)
target_compile_options(otr_compile INTERFACE -Wall -Wextra -Wpedantic -Wshadow=local $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> -Wno-missing-field-initializers)
# gcc 12 sees overlaps in std::string operations that cannot happen (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(otr_compile INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(OTR_WERROR)
  target_compile_options(otr_compile INTERFACE -Werror)
endif()
# One result everywhere: no contraction that the source does not spell out, so that the plain twins give the same bits at every level.
target_compile_options(otr_compile INTERFACE -ffp-contract=off)
if(OTR_SANITIZE)
  target_compile_options(otr_compile INTERFACE -fsanitize=${OTR_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # gcc documents that what a sanitizer adds makes this warning unreliable: with Catch's <regex> it fires inside the standard library.
  target_compile_options(otr_compile INTERFACE -Wno-maybe-uninitialized)
  target_link_options(otr_compile INTERFACE -fsanitize=${OTR_SANITIZE})
  # A test is 130 MB so, most of it line numbers: ld takes 2.5 s of each of the two hundred, gold half of that.
  find_program(OTR_GOLD ld.gold)
  if(OTR_GOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_link_options(otr_compile INTERFACE -fuse-ld=gold)
  endif()
endif()

# For what is not the library, to be linked behind otr_compile: the headers of Catch and CLI11 take most of the time to compile, two thirds of it so, and with
# sanitizers half. Of what the undefined-behaviour sanitizer looks for, only checks of every single pointer are left out; the library itself keeps all.
add_library(otr_compile_quickly INTERFACE)
if(OTR_SANITIZE)
  target_compile_options(otr_compile_quickly INTERFACE -Og)
  if(OTR_SANITIZE MATCHES "undefined")
    target_compile_options(otr_compile_quickly INTERFACE -fno-sanitize=null,alignment,vptr)
  endif()
else()
  target_compile_options(otr_compile_quickly INTERFACE $<$<CONFIG:Release>:-O1>)
endif()
