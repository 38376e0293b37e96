// What the shared options mean.
#include "src/tool/options.h"

#include <fmt/format.h>
#include <outrigger/log.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "src/tool/files.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

Status bad_device(const std::string& device) {
  return Status(StatusCode::kInvalidArgument,
                fmt::format("--device: got '{}', need cpu, cuda, cuda:N or emulated:memory=SIZE,link=RATE", device));
}

// emulated:memory=256MiB,link=4GB/s
bool is_emulated_device(std::string_view device) {
  constexpr std::string_view kPrefix = "emulated:";
  if (!device.starts_with(kPrefix)) return false;
  device.remove_prefix(kPrefix.size());
  bool memory = false, link = false;
  while (!device.empty()) {
    const std::string_view part = device.substr(0, device.find(','));
    device.remove_prefix(std::min(device.size(), part.size() + 1));
    if (part.starts_with("memory=") && parse_size(part.substr(7)).is_ok()) {
      memory = true;
    } else if (part.starts_with("link=") && parse_rate(part.substr(5)).is_ok()) {
      link = true;
    } else if (!part.starts_with("latency=") && !part.starts_with("threads=")) {
      return false;
    }
  }
  return memory && link;
}

bool is_cuda_device(std::string_view device) {
  if (device == "cuda") return true;
  return device.starts_with("cuda:") && device.size() > 5 && device.find_first_not_of("0123456789", 5) == std::string_view::npos;
}

Status not_one_of(const char* option, const std::string& got, std::string_view need) {
  return Status(StatusCode::kInvalidArgument, fmt::format("{}: got '{}', need {}", option, got, need));
}

}  // namespace

Status check_device(const CommonOptions& options) {
  const bool is_known = options.device == "cpu" || is_cuda_device(options.device) || is_emulated_device(options.device);
  return is_known ? Status() : bad_device(options.device);
}

Status check_trace(const CommonOptions& options, bool has_steps) {
  if (options.trace_file.empty()) return Status();
  if (!has_steps) return Status(StatusCode::kInvalidArgument, "--trace: this command runs no steps; use it with run, bench or eval");
  return AtomicFile::create(options.trace_file).status();
}

void apply_log_level(const CommonOptions& options) {
  set_log_sink(
      [](LogLevel level, std::string_view line) {
        constexpr const char* kNames[] = {"error", "warning", "info", "debug"};
        say(fmt::format("{}: {}", kNames[static_cast<int>(level)], line));
      },
      static_cast<LogLevel>(options.log_level));
}

uint64_t host_budget_bytes(const CommonOptions& options) {
  if (!options.host_budget) return default_host_budget();
  if (options.host_budget->share == 0) return options.host_budget->bytes;
  // The default is 90 % of what the process can get, so this is the share of the whole.
  return static_cast<uint64_t>(std::llround(static_cast<double>(default_host_budget()) / 0.9 * options.host_budget->share));
}

Status check_no_batch(const FutureOptions& options, const char* instead) {
  if (options.batch == std::vector<uint32_t>{1}) return Status();
  return Status(StatusCode::kInvalidArgument, fmt::format("--batch: got {}, need 1; {}", fmt::join(options.batch, ","), instead));
}

Status check_future(const FutureOptions& options) {
  // As many rows of logits as a step can have tokens.
  constexpr uint32_t kMostBatch = 512;
  for (const uint32_t batch : options.batch) {
    if (batch == 0 || batch > kMostBatch) {
      return Status(StatusCode::kInvalidArgument, fmt::format("--batch: got {}, need 1 to {}", batch, kMostBatch));
    }
  }
  const auto draft = draft_options(options);
  if (!draft.is_ok()) return draft.status();
  if (options.follows_load && draft.value().kind != DraftKind::kNone) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("--branch follow with --draft {}: got both, need one of them; use a share, or --draft none", options.draft));
  }
  if (options.draft_place != DraftPlace::kAuto && draft.value().kind != DraftKind::kModel) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("--draft-place with --draft {}: got both, need a FILE, which is all that has a place of its own", options.draft));
  }
  if (options.groups != "auto" && options.groups != "1" && options.groups != "2")
    return not_one_of("--groups", options.groups, "auto, 1 or 2");
  return Status();
}

std::optional<FollowLoad> follow_load(const CommonOptions& common, const FutureOptions& options) {
  if (!options.follows_load) return std::nullopt;
  FollowLoad follow;
  if (common.max_slowdown != Workload::kAnySlowdown) follow.max_slowdown = common.max_slowdown;
  return follow;
}

Status start_following(Session& session, const CommonOptions& common, const FutureOptions& options) {
  const std::optional<FollowLoad> follow = follow_load(common, options);
  if (!follow) return Status();
  if (Status status = session.follow_load(*follow); !status.is_ok()) return status;
  if (!session.branch_use().follows_load) say("--branch follow changes nothing: the model has no branches");
  return Status();
}

Result<DraftOptions> draft_options(const FutureOptions& options) {
  DraftOptions draft;
  for (const DraftKind kind : {DraftKind::kNone, DraftKind::kAuto, DraftKind::kNgram, DraftKind::kSelf}) {
    if (options.draft == draft_kind_name(kind)) draft.kind = kind;
  }
  if (draft.kind == DraftKind::kNone && options.draft != draft_kind_name(DraftKind::kNone)) {
    draft.kind = DraftKind::kModel;
    draft.path = options.draft;
  }
  for (const DraftShape shape : {DraftShape::kChain, DraftShape::kTree}) {
    if (options.draft_shape == draft_shape_name(shape)) draft.shape = shape;
  }
  if (options.draft_shape != draft_shape_name(draft.shape)) return not_one_of("--draft-shape", options.draft_shape, "auto, chain or tree");
  if (options.follows_load && draft.kind == DraftKind::kAuto) draft.kind = DraftKind::kNone;
  if (options.draft_tokens != "auto") {
    const uint32_t most = draft.shape == DraftShape::kTree ? kMostTreeDraftTokens : kMostDraftTokens;
    const std::string& text = options.draft_tokens;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), draft.tokens);
    if (error != std::errc() || end != text.data() + text.size() || draft.tokens == 0 || draft.tokens > most) {
      return not_one_of("--draft-tokens", text,
                        fmt::format("auto or 1 to {}{}", most, most == kMostDraftTokens ? ", of a tree to 31" : ""));
    }
  }
  if (Status status = draft.validate(); !status.is_ok()) return status;
  return draft;
}

uint32_t planned_draft_tokens(const DraftOptions& options, uint32_t batch) {
  // As many as n-grams are right about where they pay; each takes a row of logits, 200 KB to 600 KB, which a tight budget would rather have
  // for weights.
  constexpr uint32_t kUnasked = 8;
  if (options.kind == DraftKind::kNone) return 0;
  if (options.tokens != DraftOptions::kAsItPays) return options.tokens;
  const bool is_tree = options.shape == DraftShape::kTree;
  if (is_tree && options.kind != DraftKind::kNgram && options.kind != DraftKind::kAuto) return kMostTreeDraftTokens;
  // A model's drafts are good for some tokens also where many texts share a step.
  if (options.kind == DraftKind::kModel) return std::clamp(4 * kMostDraftTokens / std::max(1u, batch), 4u, kMostDraftTokens);
  // Texts at once share what one would have: the more there are, the less a draft of each is worth.
  return options.kind == DraftKind::kAuto && !is_tree ? kUnasked / std::max(1u, batch)
                                                      : std::max(1u, kMostDraftTokens / std::max(1u, batch));
}

}  // namespace outrigger::tool
