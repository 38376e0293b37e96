// The pieces of a GGUF header, each checked as it is read. Internal to this room.
#ifndef OUTRIGGER_SRC_IO_GGUF_ENTRIES_H_
#define OUTRIGGER_SRC_IO_GGUF_ENTRIES_H_

#include <outrigger/status.h>

#include <cstdint>
#include <string_view>

#include "src/io/gguf.h"
#include "src/io/gguf_cursor.h"

namespace outrigger {

struct GgufCounts {
  uint64_t tensors, entries;
};

/// Magic number, version and the two counts, which are no larger than the file could hold.
Status gguf_take_counts(GgufCursor* cursor, GgufCounts* counts);

/// A key or tensor name, which becomes the subject of the errors that follow. When it cannot be read, the entry before is probably to
/// blame, so the error names that.
Status gguf_take_name(GgufCursor* cursor, std::string_view* name, const char* what, uint64_t limit);

Status gguf_take_type(GgufCursor* cursor, GgufType* type, const char* what);

/// Moves past `count` values of one type, strings one by one.
Status gguf_skip_values(GgufCursor* cursor, GgufType type, uint64_t count);

/// All of a tensor that can be judged without the others: name, shape, type, size. `offset` is as the file has it: from the start of the
/// data.
/// A packed tensor's `bytes` are left at 0: they depend on the layout, whose version is to be checked first.
Status gguf_take_tensor(GgufCursor* cursor, GgufTensor* tensor, uint64_t most_name_bytes);

/// Sets `bytes` of a packed tensor, which the cursor has just passed.
Status gguf_size_packed(const GgufCursor& cursor, GgufTensor* tensor);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_GGUF_ENTRIES_H_
