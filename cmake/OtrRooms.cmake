# A room is one folder of src/: an object library of its own, so that a test links exactly the rooms it speaks about.

# otr_room(NAME base SOURCES a.cc b.cc [LINK PkgConfig::x ...])
function(otr_room)
  cmake_parse_arguments(ROOM "" "NAME" "SOURCES;LINK" ${ARGN})
  add_library(otr_${ROOM_NAME} OBJECT ${ROOM_SOURCES})
  target_include_directories(otr_${ROOM_NAME} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_include_directories(otr_${ROOM_NAME} SYSTEM PRIVATE $<TARGET_PROPERTY:fmt::fmt-header-only,INTERFACE_INCLUDE_DIRECTORIES>)
  target_link_libraries(otr_${ROOM_NAME} PRIVATE otr_compile ${ROOM_LINK})
  set_property(GLOBAL APPEND PROPERTY OTR_ROOMS ${ROOM_NAME})
  set_property(GLOBAL APPEND PROPERTY OTR_LINK ${ROOM_LINK})
endfunction()

# A list, as "model;long": of tests with such a label the binary is not built unless it is asked for by name.
set(OTR_LEFT_OUT_LABELS "" CACHE STRING "Labels of tests that are not built by default")

# otr_test(NAME gguf_test SOURCES gguf_test.cc [SUPPORT gguf_writer ...] ROOMS base tensor io [LINK ...] [LABELS model])
# ROOMS "all" means every room; SUPPORT names sources of tests/support. Each test binary is one ctest test. Those that run engines may run beside others: with
# sanitizers they keep about one processor busy. Those with the label "long" or "model" run with sanitizers in `bootstrap test --all` only; those with
# "not-tsan" have nothing for the thread sanitizer: they start no thread, or those of another test. The longest takes six minutes on a machine that has nothing
# else to do, of the thirty that it may.
function(otr_test)
  cmake_parse_arguments(TEST "" "NAME" "SOURCES;SUPPORT;ROOMS;LINK;LABELS;ARGS" ${ARGN})
  if(TEST_ROOMS STREQUAL "all")
    get_property(TEST_ROOMS GLOBAL PROPERTY OTR_ROOMS)
  endif()
  get_property(links GLOBAL PROPERTY OTR_LINK)
  set(objects)
  foreach(room ${TEST_ROOMS})
    list(APPEND objects $<TARGET_OBJECTS:otr_${room}>)
  endforeach()
  foreach(support ${TEST_SUPPORT})
    list(APPEND objects $<TARGET_OBJECTS:otr_support_${support}>)
  endforeach()
  add_executable(${TEST_NAME} ${TEST_SOURCES} ${objects})
  target_include_directories(${TEST_NAME} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(${TEST_NAME} PRIVATE otr_compile otr_test_main ${OTR_FMT} ${links} ${TEST_LINK} Threads::Threads otr_compile_quickly)
  target_compile_definitions(${TEST_NAME} PRIVATE OTR_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${TEST_NAME} COMMAND ${TEST_NAME} ${TEST_ARGS})
  set_tests_properties(${TEST_NAME} PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT 1800)
  foreach(label ${TEST_LABELS})
    if(label IN_LIST OTR_LEFT_OUT_LABELS)
      set_target_properties(${TEST_NAME} PROPERTIES EXCLUDE_FROM_ALL TRUE)
    endif()
  endforeach()
endfunction()
