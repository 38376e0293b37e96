// Tracer::to_json: the trace-event format: one process, a thread for the steps, one for each lane, one for drafts.
#include <map>
#include <nlohmann/json.hpp>

#include "src/base/formatted.h"
#include "src/graph/tracer.h"

namespace outrigger {
namespace {

constexpr int kStepTrack = 0, kDraftTrack = kStepTrack + 1 + static_cast<int>(kLanes);

// A name may hold anything; what is not UTF-8 is replaced, where the default is to throw.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

// What is the same for every run of a node: its name and the arguments that follow from it.
struct NodeText {
  std::string name, arguments;
};

class TraceText {
 public:
  TraceText(const NodeNamer& name_of, int64_t origin_ns) : name_of_(name_of), origin_ns_(origin_ns) {
    text_ = R"({"displayTimeUnit":"ms","traceEvents":[)";
    text_ += R"({"ph":"M","pid":1,"tid":0,"name":"process_name","args":{"name":"outrigger"}})";
  }

  void name_track(int track, const std::string& name) {
    add(R"(,
{{"ph":"M","pid":1,"tid":{0},"name":"thread_name","args":{{"name":{1}}}}},
{{"ph":"M","pid":1,"tid":{0},"name":"thread_sort_index","args":{{"sort_index":{0}}}}})",
        track, quoted(name));
  }

  void add_step(uint64_t number, const TraceStep& step) {
    add(R"(,
{{"ph":"X","pid":1,"tid":{},"cat":"step","name":"step {}: {} {}","ts":{:.3f},"dur":{:.3f},"args":{{"step":{},"tokens":{},"logit_rows":{},"complete":{}}}}})",
        kStepTrack, number, step.tokens, step.tokens == 1 ? "token" : "tokens", us(step.begin_ns - origin_ns_),
        us(step.end_ns - step.begin_ns), number, step.tokens, step.logit_rows, step.is_complete);
  }

  void add_event(int track, Lane lane, const TraceEvent& event, const TraceStep& step) {
    const NodeText& node = text_of(*step.graph, event.node, lane);
    add(R"(,
{{"ph":"X","pid":1,"tid":{},"cat":"{}","name":{},"ts":{:.3f},"dur":{:.3f},"args":{{"step":{},"tokens":{}{}{}}}}})",
        track, lane_name(lane), node.name, us(event.begin_ns - origin_ns_), us(event.end_ns - event.begin_ns), event.step, step.tokens,
        node.arguments, event.pages > 0 ? formatted(",\"bytes\":{}", event.pages * kTracePageBytes) : "");
  }

  void add_draft_step(const DraftStep& step) {
    add(R"(,
{{"ph":"X","pid":1,"tid":{},"cat":"draft","name":"draft step: {} {}","ts":{:.3f},"dur":{:.3f},"args":{{"tokens":{},"texts":{}}}}})",
        kDraftTrack, step.tokens, step.tokens == 1 ? "token" : "tokens", us(step.begin_ns - origin_ns_), us(step.end_ns - step.begin_ns),
        step.tokens, step.texts);
  }

  std::string finish(const std::string& dropped) {
    add("\n],\"otherData\":{{\"dropped_events\":{{{}}}}}}}\n", dropped);
    return std::move(text_);
  }

 private:
  static double us(int64_t ns) { return static_cast<double>(ns) * 1e-3; }

  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    append_formatted(&text_, format, std::forward<Args>(args)...);
  }

  const NodeText& text_of(const TaskGraph& graph, NodeId node, Lane lane) {
    std::vector<NodeText>& known = known_[{&graph, lane}];
    known.resize(graph.nodes().size());
    NodeText& text = known[node];
    if (!text.name.empty()) return text;
    const NodeLabel label = name_of_(graph, node, lane);
    text.name = quoted(label.name);
    if (label.layer >= 0) text.arguments += formatted(",\"layer\":{}", label.layer);
    if (label.bytes > 0) text.arguments += formatted(",\"bytes\":{}", label.bytes);
    return text;
  }

  const NodeNamer& name_of_;
  const int64_t origin_ns_;
  std::string text_;
  std::map<std::pair<const TaskGraph*, Lane>, std::vector<NodeText>> known_;
};

}  // namespace

std::string Tracer::to_json(const NodeNamer& name_of, const DraftTrack* drafts) const {
  TraceText text(name_of, origin_ns_);
  const std::vector<TraceStep> all_steps = steps();
  const uint64_t first_step = first_kept_step();
  text.name_track(kStepTrack, "steps");
  for (size_t i = 0; i < all_steps.size(); ++i) text.add_step(first_step + i, all_steps[i]);

  std::string all_dropped;
  for (size_t i = 0; i < kLanes; ++i) {
    const auto lane = static_cast<Lane>(i);
    const std::vector<TraceEvent> kept = events(lane);
    uint64_t lost = dropped(lane);
    if (lane >= Lane::kToDevice && kept.empty() && lost == 0) continue;  // without a device nothing is said of its lanes
    const int track = static_cast<int>(i) + kStepTrack + 1;
    if (!kept.empty()) text.name_track(track, formatted("{} lane", lane_name(lane)));
    for (const TraceEvent& event : kept) {
      // An idle lane may remember what its step's own record has made room for.
      if (event.step < first_step) {
        ++lost;
      } else {
        text.add_event(track, lane, event, all_steps[event.step - first_step]);
      }
    }
    all_dropped += formatted("{}\"{}\":{}", i > 0 ? "," : "", lane_name(lane), lost);
  }
  const std::vector<DraftStep> draft_steps = drafts == nullptr ? std::vector<DraftStep>() : drafts->kept();
  if (!draft_steps.empty()) {
    text.name_track(kDraftTrack, "draft");
    for (const DraftStep& step : draft_steps) {
      if (step.begin_ns >= origin_ns_) text.add_draft_step(step);  // the others were before a change of the plan, with which a trace begins
    }
    all_dropped += formatted(",\"draft\":{}", drafts->dropped());
  }
  return text.finish(all_dropped);
}

}  // namespace outrigger
