// Progress on stderr.
#include "src/tool/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kBarDelay(300), kBarPeriod(100);         // a bar that flashes up and goes is noise
constexpr milliseconds kPlainDelay(3000), kPlainPeriod(10000);  // a log wants few lines
constexpr int kBarWidth = 30;

}  // namespace

ProgressLine::ProgressLine(ProgressMode mode, std::string what) : what_(std::move(what)) {
  bar_ = mode == ProgressMode::kAuto && isatty(STDERR_FILENO) == 1;
  finished_ = mode == ProgressMode::kNone;
  next_ = Clock::now() + (bar_ ? kBarDelay : kPlainDelay);
}

ProgressLine::~ProgressLine() { finish(); }

void ProgressLine::update(double share) {
  if (finished_) return;
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  next_ = now + (bar_ ? kBarPeriod : kPlainPeriod);
  draw(std::clamp(share, 0.0, 1.0));
}

void ProgressLine::draw(double share) {
  const int percent = static_cast<int>(share * 100);
  if (!bar_) return say(fmt::format("{}: {} %", what_, percent));
  const int full = static_cast<int>(share * kBarWidth);
  write_err(fmt::format("\r{} [{:#<{}}{:<{}}] {:3} %\033[K", what_, "", full, "", kBarWidth - full, percent));
  drawn_ = true;
}

void ProgressLine::finish() {
  if (drawn_) write_err("\r\033[K");
  drawn_ = false;
  finished_ = true;
}

std::function<bool(double)> ProgressLine::callback() {
  return [this](double share) {
    update(share);
    return true;
  };
}

}  // namespace outrigger::tool
