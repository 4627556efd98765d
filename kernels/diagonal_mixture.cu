// SPDX-License-Identifier: Apache-2.0
// Gaussian mixtures with diagonal covariances: log marginals, statistics, gradients, draws. Here are the launches;
// the kernels are in kernels/diagonal_mixture, to be read in this order: parameters, tile, marginal, statistics,
// rows, joint.
//
// Mapping    a block of 128 threads works on tiles of 128 rows x 64 components, a thread on 8 x 8 of them;
//            data, parameters and the tile's responsibilities are in shared memory (at most 64 dimensions
//            at a time), logits and sums in registers. For the moments a thread changes sides: it owns
//            8 components x 4 dimensions and visits every g-th row, g = 128 / (8 ceil(D / 4)).
// Algorithm  prepare_kernel makes a = 1 / scale and b = -a (mean - centre) of the parameters, in base 2 and
//            about a centre amid the means, and notes the largest |b|. A logit is then c - sum_d (a x + b)^2:
//            2 FMA an (n, k, d), as the expanded form would take, but with an error of |t b| 2^-24 instead
//            of b^2 2^-24. Moments are those of x about the centre, 2 FMA, while every |b| is below 5 / 0.85:
//            the shift to standardised moments then loses at most b^2 = 36 roundings. Beyond, decided on the
//            device and never seen by the host, both are taken about each mean: 3 and 4 instructions.
//            K <= 64 and D <= 64: one pass; a tile has all components, so that its own log-sums normalise it,
//            and each exponential is taken once. Else two: a pass for each row's (max, 1 / sum), then one
//            with a block for each tile of components and share of the rows, which computes the logits
//            again: the sums of 1024 x 64 x 2 moments do not fit a multiprocessor, N x K responsibilities are
//            not to be stored. That costs 6 FMA in place of 4. y_given is not used: a log marginal rounded to
//            float would bend each responsibility by |y| 2^-24, (max, 1 / sum) do not.
//            D > 64: chunks of 64 dimensions, and a block for each chunk of the moments, which computes all
//            of the logit again: for correctness at any D, not for speed.
// Traffic    reads x once a tile of components (L2), writes y; scratch (1 + 3 D) K floats, 8 bytes a row, and
//            the blocks' sums, at most 264 (2 D + 1) 64 doubles.
//            Data about 1e19 units of scale from the centre overflow the moments.
// Order      fixed. Sums run over at most 8 tiles in float, in double from there: over tiles, over
//            blocks. Equal bits run to run on any device, since the cut into blocks does not ask for it.
// Floor      on an H200 (33.5e12 lane instructions/s, 4.18e12 exp/s), 4 FMA an (n, k, d) and an exp a pair, for
//            N x K x D =           100k x 64 x 16    1M x 256 x 2    20k x 1024 x 64
//            floor                          14 us          122 us             162 us
//            issue, as counted              16 us          205 us             270 us
//            with two more launches and 85 %
//            of the issue slots, expected   25 us          245 us             325 us
//            about each mean, expected      36 us          330 us             520 us
//            Two blocks a multiprocessor: 57 KB of shared memory a block at D = 16, 109 KB at D = 64.
//            Counted by hand for a thread and tile: 136 a dimension for logits, 7 a pair for the softmax, 71 a
//            row for the moments, 12 a staged datum. Not measured. What the last case lacks to its goal
//            needs the tensor cores; the second, moments in the registers that hold the logits.
#include "kernels/diagonal_mixture/joint.cuh"
#include "kernels/diagonal_mixture/rows.cuh"
#include "kernels/diagonal_mixture/statistics.cuh"

namespace dgm::kernels {

namespace {

// A thread makes four dimensions of a datum from one block of words.
__global__ void __launch_bounds__(kThreads) ancestral_kernel(DiagonalMixtureAncestral args, const double* cumulative) {
  const int64_t dims = args.mixture.dims;
  const int64_t quads = (dims + 3) / 4;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.rows * quads;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t n = i / quads;
    const int64_t quad = i % quads;
    const int64_t k =
        cuda::invert(cumulative, args.mixture.components, cuda::draw_uniform(args.draws, static_cast<uint64_t>(n), 0));
    if (quad == 0) args.z[n] = static_cast<int32_t>(k);
    float normals[4];
    cuda::draw_normals(args.draws, static_cast<uint64_t>(n), static_cast<uint32_t>(1 + quad), normals);
    DGM_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int64_t d = 4 * quad + j;
      if (d >= dims) continue;
      args.x[n * dims + d] =
          k < 0 ? NAN : fmaf(expf(args.mixture.log_scale[k * dims + d]), normals[j], args.mixture.mean[k * dims + d]);
    }
  }
}

__global__ void __launch_bounds__(kFinishThreads) gradient_kernel(DiagonalMixtureGradients args) {
  const int64_t count = args.mixture.components * args.mixture.dims;
  const double upstream = args.upstream == nullptr ? 1.0 : static_cast<double>(*args.upstream);
  for (int64_t i = int64_t{blockIdx.x} * kFinishThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kFinishThreads) {
    if (args.d_mean != nullptr) {
      const double s1 = args.s1[i];
      const double scale = s1 == 0 ? 1.0 : exp(static_cast<double>(args.mixture.log_scale[i]));
      args.d_mean[i] = static_cast<float>(upstream * (s1 / scale));
    }
    if (args.d_log_scale != nullptr) {
      args.d_log_scale[i] = static_cast<float>(upstream * (args.s2[i] - args.s0[i / args.mixture.dims]));
    }
  }
}

// ---------------------------------------------------------------- scratch and launches

unsigned row_blocks(int64_t rows) { return static_cast<unsigned>(ceil_div(rows, kRows)); }

struct StatisticsScratch {
  Carver carver;
  Marginals marginals;
  StatisticsPlan plan;
  double* totals;

  StatisticsScratch(void* base, const DiagonalMixture& mixture, int64_t rows)
      : carver(base), marginals(carver, mixture, rows, true), plan(carver, mixture, rows) {
    totals = carver.take<double>(plan.splits);
  }
};

struct RowScratch {
  Carver carver;
  Marginals marginals;

  RowScratch(void* base, const DiagonalMixture& mixture, int64_t rows, bool with_norms)
      : carver(base), marginals(carver, mixture, rows, with_norms) {}
};

}  // namespace

std::size_t cuda_scratch_bytes(const DiagonalMixtureMarginal& args) {
  return RowScratch(nullptr, args.mixture, args.rows, false).carver.bytes();
}

void run_cuda(const DiagonalMixtureMarginal& args, void* stream) {
  const bool total_wanted = args.total != nullptr || args.exact_total != nullptr;
  if (args.rows == 0 && !total_wanted) return;
  const Marginals marginals = RowScratch(args.scratch, args.mixture, args.rows, false).marginals;
  prepare(args.mixture, marginals.packed, stream);
  marginals.launch(args.mixture, args.x, args.rows, args.weights, args.y, stream);
  if (total_wanted) {
    cuda::launch(cuda::total_kernel, 1, cuda::kTotalThreads, cuda::kTotalBytes, stream,
                 static_cast<const double*>(marginals.totals), marginals.plan.finish_blocks, args.total,
                 args.exact_total);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureStatistics& args) {
  return StatisticsScratch(nullptr, args.mixture, args.rows).carver.bytes();
}

void run_cuda(const DiagonalMixtureStatistics& args, void* stream) {
  const StatisticsScratch scratch(args.scratch, args.mixture, args.rows);
  const Marginals& marginals = scratch.marginals;
  const Packed& packed = marginals.packed;
  prepare(args.mixture, packed, stream);
  StatisticsPass pass = {};
  pass.mixture = args.mixture;
  pass.packed = packed;
  pass.x = args.x;
  pass.rows = args.rows;
  pass.weights = args.weights;
  pass.norms = marginals.norms;
  pass.partials = scratch.plan.partials;
  const bool whole = packed.tiles == 1 && args.mixture.dims <= kDims;
  if (whole) {
    pass.y = args.y;
    pass.totals = scratch.totals;
    if (args.dx == nullptr) pass.norms = nullptr;
    scratch.plan.launch<Source::whole>(pass, stream);
  } else {
    marginals.launch(args.mixture, args.x, args.rows, args.weights, args.y, stream);
    scratch.plan.launch<Source::norms>(pass, stream);
  }
  scratch.plan.finish(args.mixture, packed, whole ? scratch.totals : marginals.totals,
                      whole ? scratch.plan.splits : marginals.plan.finish_blocks, args.s0, args.s1, args.s2, args.total,
                      args.exact_total, stream);
  if (args.dx != nullptr && args.rows > 0) {
    const RowPass rows = {args.mixture, packed, args.x, args.rows, marginals.norms, args.dx};
    cuda::launch(data_gradient_kernel, dim3(row_blocks(args.rows), static_cast<unsigned>(scratch.plan.slices)),
                 kThreads, tile_bytes(1, args.mixture.dims, true), stream, rows);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureGradients&) { return 0; }

void run_cuda(const DiagonalMixtureGradients& args, void* stream) {
  if (args.d_mean != nullptr || args.d_log_scale != nullptr) {
    cuda::launch(gradient_kernel, cuda::blocks_for(args.mixture.components * args.mixture.dims, kFinishThreads),
                 kFinishThreads, 0, stream, args);
  }
  if (args.d_logits != nullptr) {
    cuda::launch(cuda::logit_gradient_kernel, 1, cuda::kTotalThreads, cuda::kTotalBytes, stream, args.mixture.logits,
                 args.s0, args.mixture.components, args.upstream, args.d_logits);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureResponsibilities& args) {
  return RowScratch(nullptr, args.mixture, args.rows, true).carver.bytes();
}

void run_cuda(const DiagonalMixtureResponsibilities& args, void* stream) {
  if (args.rows == 0) return;
  const Marginals marginals = RowScratch(args.scratch, args.mixture, args.rows, true).marginals;
  prepare(args.mixture, marginals.packed, stream);
  marginals.launch(args.mixture, args.x, args.rows, nullptr, nullptr, stream);
  const RowPass pass = {args.mixture, marginals.packed, args.x, args.rows, marginals.norms, args.r};
  cuda::launch(responsibility_kernel, dim3(row_blocks(args.rows), static_cast<unsigned>(marginals.packed.tiles)),
               kThreads, tile_bytes(1, args.mixture.dims, false), stream, pass);
}

std::size_t cuda_scratch_bytes(const DiagonalMixturePosteriorSample& args) {
  return RowScratch(nullptr, args.mixture, args.rows, true).carver.bytes();
}

void run_cuda(const DiagonalMixturePosteriorSample& args, void* stream) {
  if (args.rows == 0) return;
  const Marginals marginals = RowScratch(args.scratch, args.mixture, args.rows, true).marginals;
  prepare(args.mixture, marginals.packed, stream);
  marginals.launch(args.mixture, args.x, args.rows, nullptr, args.y, stream);
  const PosteriorPass pass = {args, marginals.packed, marginals.norms};
  cuda::launch(posterior_kernel, cuda::blocks_for(args.rows, kThreads / kWarp), kThreads, 0, stream, pass);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureJoint& args) {
  Carver carver(nullptr);
  pack(carver, args.mixture);
  return carver.bytes();
}

void run_cuda(const DiagonalMixtureJoint& args, void* stream) {
  if (args.rows == 0) return;
  Carver carver(args.scratch);
  const Packed packed = pack(carver, args.mixture);
  prepare(args.mixture, packed, stream);
  int lanes = 1;
  while (lanes < kWarp && lanes < args.mixture.dims) lanes *= 2;
  cuda::launch(joint_kernel, cuda::blocks_for(args.rows * args.samples, kThreads / lanes), kThreads, 0, stream, args,
               packed, lanes);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureJointStatistics& args) {
  Carver carver(nullptr);
  pack(carver, args.mixture);
  StatisticsPlan(carver, args.mixture, args.rows);
  return carver.bytes();
}

void run_cuda(const DiagonalMixtureJointStatistics& args, void* stream) {
  Carver carver(args.scratch);
  const Packed packed = pack(carver, args.mixture);
  const StatisticsPlan plan(carver, args.mixture, args.rows);
  prepare(args.mixture, packed, stream);
  StatisticsPass pass = {};
  pass.mixture = args.mixture;
  pass.packed = packed;
  pass.x = args.x;
  pass.rows = args.rows;
  pass.z = args.z;
  pass.g = args.g;
  pass.samples = args.samples;
  pass.partials = plan.partials;
  plan.launch<Source::given>(pass, stream);
  plan.finish(args.mixture, packed, nullptr, 0, args.s0, args.s1, args.s2, nullptr, nullptr, stream);
  if (args.dx != nullptr && args.rows > 0) {
    cuda::launch(joint_data_gradient_kernel, cuda::blocks_for(args.rows * args.mixture.dims, kThreads), kThreads, 0,
                 stream, args);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureAncestral& args) {
  Carver carver(nullptr);
  carver.take<double>(args.mixture.components);
  return carver.bytes();
}

void run_cuda(const DiagonalMixtureAncestral& args, void* stream) {
  if (args.rows == 0) return;
  Carver carver(args.scratch);
  double* const cumulative = carver.take<double>(args.mixture.components);
  cuda::launch(cuda::cumulative_kernel, 1, cuda::kTotalThreads, cuda::kCumulativeBytes, stream, args.mixture.logits,
               args.mixture.components, cumulative);
  cuda::launch(ancestral_kernel, cuda::blocks_for(args.rows * ceil_div(args.mixture.dims, 4), kThreads), kThreads, 0,
               stream, args, static_cast<const double*>(cumulative));
}

}  // namespace dgm::kernels
