// What was submitted, and what may begin.
#include "src/device/work_queues.h"

#include <algorithm>

namespace outrigger {

WorkQueues::WorkQueues() {
  for (Queue& queue : queues_) {
    queue.ring.resize(kDepth);
    queue.tickets.resize(kDepth);
  }
}

void WorkQueues::submit(Stream stream, const Work& work) {
  Queue& queue = this->queue(stream);
  const size_t place = (queue.first + queue.size) % kDepth;
  queue.ring[place] = work;
  queue.tickets[place] = tickets_++;
  ++queue.size;
  ++queue.submitted;
  if (work.engine == WorkEngine::kNone) pass_waits();
}

std::optional<WorkQueues::Begun> WorkQueues::begin(WorkEngine engine) {
  Queue* chosen = nullptr;
  for (Queue& queue : queues_) {
    if (queue.size == 0 || queue.is_running || queue.ring[queue.first].engine != engine) continue;
    if (chosen == nullptr || queue.tickets[queue.first] < chosen->tickets[chosen->first]) chosen = &queue;
  }
  if (chosen == nullptr) return std::nullopt;
  chosen->is_running = true;
  const Work& work = chosen->ring[chosen->first];
  return Begun{static_cast<Stream>(chosen - queues_.data()), &work, std::max(work.submitted, chosen->ended)};
}

void WorkQueues::finish(Stream stream, TimePoint end) {
  Queue& queue = this->queue(stream);
  queue.is_running = false;
  queue.ended = end;
  pop(queue);
  pass_waits();
}

void WorkQueues::pop(Queue& queue) {
  queue.first = (queue.first + 1) % kDepth;
  --queue.size;
  ++queue.done;
}

// Streams whose next work is a wait that is over go on; that may end another's wait.
void WorkQueues::pass_waits() {
  for (bool has_moved = true; has_moved;) {
    has_moved = false;
    for (Queue& queue : queues_) {
      while (queue.size > 0 && queue.ring[queue.first].engine == WorkEngine::kNone && is_ready(queue.ring[queue.first].event)) {
        const Event& event = queue.ring[queue.first].event;
        queue.ended = std::max(queue.ended, this->queue(event.stream).ended);
        pop(queue);
        has_moved = true;
      }
    }
  }
}

}  // namespace outrigger
