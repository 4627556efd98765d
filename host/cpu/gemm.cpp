// SPDX-License-Identifier: Apache-2.0
// The product is cut into one part a thread, each a call of its own to oneDNN or a BLAS: by rows or columns of C
// where these are many, else along k, with the parts' results added in order. Left to itself, such a library
// with its own threads would compete with ours for the cores.
#include "kernels/gemm.hpp"

#include "host/cpu/parallel.hpp"

#ifdef DGM_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#else
#include <cblas.h>
#endif

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <vector>

#ifndef DGM_ONEDNN
extern "C" {
// OpenBLAS's own; null in any other BLAS.
[[gnu::weak]] int openblas_get_parallel(void);
[[gnu::weak]] int openblas_get_num_threads(void);
[[gnu::weak]] void openblas_set_num_threads(int);
}
#endif

namespace dgm::kernels {

namespace {

constexpr double kGrainFlops = 2e6;  // of a part: below, a second thread costs more than it brings

/// Makes a library that is built on OpenMP run its calls in the thread that makes them. (Within a parallel region
/// it does so by itself, but not where ours is of one thread.)
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

#ifndef DGM_ONEDNN
/// The same for an OpenBLAS that is built on plain threads, while it lives, in all threads.
class SerialOpenBlas {
 public:
  SerialOpenBlas() {
    constexpr int kPlainThreads = 1;
    if (openblas_get_parallel == nullptr || openblas_get_parallel() != kPlainThreads) return;
    before_ = openblas_get_num_threads();
    if (before_ > 1) openblas_set_num_threads(1);
  }
  ~SerialOpenBlas() {
    if (before_ > 1) openblas_set_num_threads(before_);
  }
  SerialOpenBlas(const SerialOpenBlas&) = delete;
  SerialOpenBlas& operator=(const SerialOpenBlas&) = delete;

 private:
  int before_ = 0;
};
#endif

struct Range {
  int64_t begin;
  int64_t end;
};

// The part of C in the given rows and columns, summed over a range of k, into c with leading dimension ldc. False if
// there was no memory for it: nothing may be thrown out of a thread.
[[nodiscard]] bool part(const Gemm& args, Range rows, Range cols, Range terms, float beta, float* c, int64_t ldc) {
  const int64_t lda = args.transpose_a ? args.m : args.k;
  const int64_t ldb = args.transpose_b ? args.k : args.n;
  const float* const a = args.a + (args.transpose_a ? terms.begin * lda + rows.begin : rows.begin * lda + terms.begin);
  const float* const b = args.b + (args.transpose_b ? cols.begin * ldb + terms.begin : terms.begin * ldb + cols.begin);
  const auto m = rows.end - rows.begin;
  const auto n = cols.end - cols.begin;
  const auto k = terms.end - terms.begin;
  const OneThread serial;
#ifdef DGM_ONEDNN
  return dnnl_sgemm(args.transpose_a ? 'T' : 'N', args.transpose_b ? 'T' : 'N', m, n, k, args.alpha, a, lda, b, ldb,
                    beta, c, ldc) == dnnl_success;  // all else that it refuses was checked
#else
  cblas_sgemm(CblasRowMajor, args.transpose_a ? CblasTrans : CblasNoTrans, args.transpose_b ? CblasTrans : CblasNoTrans,
              static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), args.alpha, a, static_cast<int>(lda), b,
              static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
  return true;
#endif
}

}  // namespace

void run_cpu(const Gemm& args) {
  const int64_t m = args.m;
  const int64_t n = args.n;
  const int64_t k = args.k;
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (int64_t i = 0; i < m * n; ++i) args.c[i] = args.beta == 0 ? 0 : args.beta * args.c[i];
    return;
  }
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const auto parts = static_cast<int64_t>(std::clamp(flops / kGrainFlops, 1.0, static_cast<double>(cpu_threads())));
  const Range all_rows = {0, m};
  const Range all_cols = {0, n};
  const Range all_terms = {0, k};
#ifndef DGM_ONEDNN
  const SerialOpenBlas serial;
#endif
  std::atomic<bool> computed = true;
  const auto compute = [&](Range rows, Range cols, Range terms, float beta, float* c) {
    if (!part(args, rows, cols, terms, beta, c, n)) computed = false;
  };
  // Parts narrower than a register tile of the BLAS would waste it.
  constexpr int64_t kTile = 64;
  if (parts == 1) {
    compute(all_rows, all_cols, all_terms, args.beta, args.c);
  } else if (m >= parts * kTile && (m >= n || n < parts * kTile)) {
    cpu::parallel_ranges(m, (m + parts - 1) / parts, 16, [&](int64_t begin, int64_t end, int) {
      compute({begin, end}, all_cols, all_terms, args.beta, args.c + begin * n);
    });
  } else if (n >= parts * kTile) {
    cpu::parallel_ranges(n, (n + parts - 1) / parts, 16, [&](int64_t begin, int64_t end, int) {
      compute(all_rows, {begin, end}, all_terms, args.beta, args.c + begin);
    });
  } else {
    // A small C under a long sum: the gradient of a weight by a large batch.
    std::vector<float> sums(static_cast<std::size_t>((parts - 1) * m * n), 0.0f);
    cpu::parallel_ranges(k, (k + parts - 1) / parts, [&](int64_t begin, int64_t end, int t) {
      if (t == 0) {
        compute(all_rows, all_cols, {begin, end}, args.beta, args.c);
      } else {
        compute(all_rows, all_cols, {begin, end}, 0.0f, sums.data() + (t - 1) * m * n);
      }
    });
    for (int64_t p = 0; p + 1 < parts; ++p) {
      for (int64_t i = 0; i < m * n; ++i) args.c[i] += sums[static_cast<std::size_t>(p * m * n + i)];
    }
  }
  if (!computed) throw std::bad_alloc();
}

}  // namespace dgm::kernels
