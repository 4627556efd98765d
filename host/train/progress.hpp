// SPDX-License-Identifier: Apache-2.0
// The progress bar of a training run.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace dgm {

/// One line on stderr, redrawn twice a second on a terminal; elsewhere a new line every ten
/// seconds. A run that ends within the first half second draws nothing.
class ProgressBar {
 public:
  ProgressBar(bool active, int64_t done, int64_t total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Whether it is time to draw again.
  bool due() const;
  void draw(int64_t done, const std::string& figures);

  /// The line, for instance "[====>     ]  1200/3000  loss 1.25  ETA 0:07".
  static std::string line(int64_t done, int64_t total, const std::string& figures, double seconds_left);

 private:
  using Clock = std::chrono::steady_clock;
  bool active_;
  bool terminal_;
  int64_t first_;
  int64_t total_;
  Clock::time_point start_;
  Clock::time_point last_;
  std::size_t drawn_ = 0;  // characters of the line on the terminal
};

}  // namespace dgm
