// SPDX-License-Identifier: Apache-2.0
#include "host/train/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace dgm {

ProgressBar::ProgressBar(bool active, int64_t done, int64_t total)
    : active_(active),
      terminal_(::isatty(STDERR_FILENO) == 1),
      first_(done),
      total_(total),
      start_(Clock::now()),
      last_(start_) {}

ProgressBar::~ProgressBar() {
  if (drawn_ > 0 && terminal_) std::fputc('\n', stderr);
}

bool ProgressBar::due() const {
  if (!active_) return false;
  return Clock::now() - last_ >= (terminal_ ? std::chrono::milliseconds(500) : std::chrono::seconds(10));
}

std::string ProgressBar::line(int64_t done, int64_t total, const std::string& figures, double seconds_left) {
  constexpr int64_t kWidth = 24;
  const auto filled = static_cast<std::size_t>(total > 0 ? kWidth * std::clamp<int64_t>(done, 0, total) / total : 0);
  std::string bar(filled, '=');
  if (filled < kWidth) bar += '>';
  bar.resize(kWidth, ' ');
  const std::string of = std::to_string(total);
  std::string count = std::to_string(done);
  count.insert(0, of.size() - std::min(of.size(), count.size()), ' ');
  std::string result = "[";
  result.append(bar).append("] ").append(count).append("/").append(of);
  if (!figures.empty()) result.append("  ").append(figures);
  if (std::isfinite(seconds_left)) {
    const auto left = static_cast<int64_t>(std::ceil(seconds_left));
    char eta[48];
    if (left < 3600) {
      std::snprintf(eta, sizeof(eta), "  ETA %d:%02d", static_cast<int>(left / 60), static_cast<int>(left % 60));
    } else {
      std::snprintf(eta, sizeof(eta), "  ETA %lld:%02d:%02d", static_cast<long long>(left / 3600),
                    static_cast<int>(left / 60 % 60), static_cast<int>(left % 60));
    }
    result += eta;
  }
  return result;
}

void ProgressBar::draw(int64_t done, const std::string& figures) {
  if (!active_) return;
  last_ = Clock::now();
  const double elapsed = std::chrono::duration<double>(last_ - start_).count();
  const double left =
      done > first_ ? elapsed / static_cast<double>(done - first_) * static_cast<double>(total_ - done) : INFINITY;
  std::string text = line(done, total_, figures, left);
  if (terminal_) {
    const std::size_t width = text.size();
    if (width < drawn_) text.resize(drawn_, ' ');  // over what a longer line left
    drawn_ = width;
    std::fprintf(stderr, "\r%s", text.c_str());
  } else {
    drawn_ = text.size();
    std::fprintf(stderr, "%s\n", text.c_str());
  }
  std::fflush(stderr);
}

}  // namespace dgm
