// Saving, restoring and copying a session's state.
#include <outrigger/session.h>

#include <cstring>
#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/load_follower.h"
#include "src/decode/session_impl.h"
#include "src/io/atomic_file.h"

namespace outrigger {
namespace {

constexpr uint64_t kMagic = 0x0173736573726f74;  // "torsess", version 1

// The state's beginning; then tokens, logits (if any), keys and values, and a checksum of everything before it.
struct StateHeader {
  uint64_t magic = kMagic;
  uint64_t model_fingerprint = 0;
  uint32_t tokens = 0, computed = 0;
  uint64_t logits = 0;    // floats
  uint64_t kv_bytes = 0;
};

// FNV-1a, 64 bit: finds accidents, which is all that is asked of it.
uint64_t checksum(std::span<const std::byte> bytes, uint64_t hash = 0xcbf29ce484222325u) {
  for (const std::byte byte : bytes) hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3u;
  return hash;
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

// Of what decides the meaning of keys and values: every weight's name, type and place, and the arithmetic.
uint64_t fingerprint(const Engine::Impl& engine) {
  uint64_t hash = checksum(bytes_of(engine.plan.kv_type), checksum(bytes_of(engine.numerics)));
  const uint64_t size = engine.model.info().bytes;
  hash = checksum(bytes_of(size), hash);
  for (const GgufTensor& tensor : engine.model.impl()->file.tensors()) {
    hash = checksum(std::as_bytes(std::span(tensor.name)), hash);
    hash = checksum(bytes_of(tensor.type), hash);
    hash = checksum(bytes_of(tensor.offset), hash);
  }
  return hash;
}

Status broken(const char* what, uint64_t got, uint64_t need, uint64_t offset) {
  return Status(StatusCode::kCorruptFile, formatted("session state: {}: got {}, need {}", what, got, need)).at_offset(offset);
}

// Bytes of a state with this header, or an error that names what does not fit.
Status check_header(const StateHeader& header, uint64_t state_bytes, const Session::Impl& session) {
  if (header.magic != kMagic) return Status(StatusCode::kCorruptFile, "not a session state of this version");
  if (header.model_fingerprint != fingerprint(*session.engine)) {
    return Status(StatusCode::kInvalidArgument, "the session state is of another model file, or of other numerics");
  }
  if (header.tokens > session.context_tokens) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("the session state holds {} tokens, this session at most {}", header.tokens, session.context_tokens));
  }
  if (header.computed > header.tokens || header.tokens - header.computed > 1)
    return broken("computed tokens", header.computed, header.tokens, offsetof(StateHeader, computed));
  if (header.logits != 0 && header.logits != session.logits.size())
    return broken("logits", header.logits, session.logits.size(), offsetof(StateHeader, logits));
  const uint64_t kv_bytes = session.cache.prefix_bytes(header.computed);
  if (header.kv_bytes != kv_bytes) return broken("bytes of keys and values", header.kv_bytes, kv_bytes, offsetof(StateHeader, kv_bytes));
  const uint64_t need = sizeof header + header.tokens * sizeof(Token) + header.logits * sizeof(float) + kv_bytes + sizeof(uint64_t);
  if (state_bytes != need) return broken("bytes", state_bytes, need, state_bytes);
  return {};
}

}  // namespace

Result<std::vector<std::byte>> Session::save() const try {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  const Impl& session = *impl_;
  StateHeader header;
  header.model_fingerprint = fingerprint(*session.engine);
  header.tokens = static_cast<uint32_t>(session.tokens.size());
  header.computed = session.computed;
  header.logits = session.has_logits ? session.logits.size() : 0;
  header.kv_bytes = session.cache.prefix_bytes(session.computed);

  std::vector<std::byte> state;
  const auto append = [&state](std::span<const std::byte> bytes) { state.insert(state.end(), bytes.begin(), bytes.end()); };
  append(bytes_of(header));
  append(std::as_bytes(std::span(session.tokens)));
  append(std::as_bytes(std::span(session.logits).first(header.logits)));
  const size_t kv_at = state.size();
  state.resize(kv_at + header.kv_bytes);
  {
    const std::lock_guard lock(session.engine->step_mutex);  // the transfer buffer, and the slots of spilled layers, are the steps' as well
    OTR_TRY(session.cache.copy_prefix_to(session.computed, std::span(state).subspan(kv_at), *session.engine->residency));
  }
  const uint64_t sum = checksum(state);
  append(bytes_of(sum));
  return state;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status Session::restore(std::span<const std::byte> state) {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  Impl& session = *impl_;
  StateHeader header;
  if (state.size() < sizeof header + sizeof(uint64_t)) return broken("bytes", state.size(), sizeof header + sizeof(uint64_t), state.size());
  std::memcpy(&header, state.data(), sizeof header);
  OTR_TRY(check_header(header, state.size(), session));
  uint64_t sum = 0;
  std::memcpy(&sum, state.data() + state.size() - sizeof sum, sizeof sum);
  if (sum != checksum(state.first(state.size() - sizeof sum)))
    return broken("checksum", sum, checksum(state.first(state.size() - sizeof sum)), state.size() - sizeof sum);

  const std::byte* at = state.data() + sizeof header;
  for (uint32_t i = 0; i < header.tokens; ++i) {
    Token token = 0;
    std::memcpy(&token, at + i * sizeof token, sizeof token);
    if (token < 0 || static_cast<uint64_t>(token) >= session.engine->layout().vocabulary) {
      return broken("token id", static_cast<uint64_t>(static_cast<uint32_t>(token)), session.engine->layout().vocabulary - 1,
                    sizeof header + i * sizeof token);
    }
  }
  const std::span<const std::byte> keys_and_values =
      state.subspan(sizeof header + header.tokens * sizeof(Token) + header.logits * sizeof(float), header.kv_bytes);
  {
    const std::lock_guard lock(session.engine->step_mutex);
    if (Status status = session.cache.copy_prefix_from(header.computed, keys_and_values, *session.engine->residency); !status.is_ok()) {
      session.truncate(0);  // some layers are of one state, some of the other
      return status;
    }
  }
  session.tokens.resize(header.tokens);  // within the reserved context: cannot fail
  if (header.tokens > 0) std::memcpy(session.tokens.data(), at, header.tokens * sizeof(Token));
  at += header.tokens * sizeof(Token);
  if (header.logits > 0) std::memcpy(session.logits.data(), at, header.logits * sizeof(float));
  session.computed = header.computed;
  session.has_logits = header.logits > 0;
  return {};
}

Status Session::save_file(const std::string& path) const {
  OTR_ASSIGN(const std::vector<std::byte> state, save());
  return write_file_atomically(path, state);
}

Status Session::restore_file(const std::string& path) try {
  OTR_ASSIGN(const std::vector<std::byte> state, read_whole_file(path));
  return restore(state).in_file(path);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<Session> Session::fork() const try {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  OTR_ASSIGN(Session copy, open(Engine(impl_->engine), {impl_->context_tokens, impl_->branch_share}));
  Impl& to = *copy.impl_;
  const Impl& from = *impl_;
  if (from.follower) to.follower = std::make_shared<LoadFollower>(*from.follower);
  to.tokens = from.tokens;
  to.tokens.reserve(to.context_tokens);
  to.computed = from.computed;
  to.logits = from.logits;
  to.has_logits = from.has_logits;
  const uint64_t bytes = from.cache.prefix_bytes(from.computed);
  std::vector<std::byte> prefix(bytes);
  const std::lock_guard lock(from.engine->step_mutex);
  OTR_TRY(from.cache.copy_prefix_to(from.computed, prefix, *from.engine->residency));
  OTR_TRY(to.cache.copy_prefix_from(from.computed, prefix, *from.engine->residency));
  return copy;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
