// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/safetensors.hpp>
#include <dgm/ops/affine.hpp>
#include <dgm/ops/categorical_sample.hpp>
#include <dgm/ops/log_sum_exp.hpp>
#include <dgm/ops/pick.hpp>
#include <dgm/train/trainer.hpp>

#include "host/train/progress.hpp"
#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"
#include "tests/support/reference.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <thread>

namespace dgm::test {
namespace {

using Floats = std::vector<float>;
using OptimiserOf = std::function<Optimiser(Parameters&)>;

constexpr int64_t kData = 37;
constexpr int64_t kColumns = 4;
constexpr int64_t kClasses = 3;

Optimiser default_adam(Parameters& p) {
  return adamw(p, {.rate = Schedule::cosine(0.05, 60, 0.01).with_warmup(5), .weight_decay = 0.1, .clip_norm = 20});
}

// Logits from data by an affine map, the sum over the data of the logit of a class drawn from them:
// a loss that depends on parameters, minibatch and draws.
class Model {
 public:
  explicit Model(Device device, const OptimiserOf& optimiser_of = default_adam,
                 Floats data = random_normals(kData * kColumns, 2))
      : optimiser((parameters.add("weight", Tensor<float>::from(random_normals(kClasses * kColumns, 1, 0.1),
                                                                {kClasses, kColumns}, device)),
                   parameters.add("bias", Tensor<float>::zeros({kClasses}, device)), optimiser_of(parameters))),
        x_(Tensor<float>::from(data, {kData, kColumns}, device)) {}
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  Variable loss(Tape& tape, const Minibatch& minibatch) {
    const Variable logits =
        affine(gather_rows(x_, minibatch.indices), tape.watch(parameters["weight"]), tape.watch(parameters["bias"]));
    const auto z = categorical_sample(logits.value(), minibatch.draws.at(3), 1, &minibatch.indices);
    const int64_t m = minibatch.indices.size();
    return matmul(minibatch.weights.reshape({1, m}), pick(logits, z));
  }
  Trainer::Loss loss() {
    return [this](Tape& tape, const Minibatch& minibatch) { return loss(tape, minibatch); };
  }
  // sum_n log sum_k exp logits, by the same ops.
  double validation() {
    const Variable y = log_sum_exp(affine(x_, parameters["weight"].value, parameters["bias"].value));
    double sum = 0;
    for (const float value : y.value().to_host()) sum += static_cast<double>(value);
    return sum;
  }
  Floats values() { return parameters.flat_value().to_host(); }

  Parameters parameters;
  Optimiser optimiser;

 private:
  Tensor<float> x_;
};

std::vector<double> losses(const History& history) {
  std::vector<double> result;
  for (const auto& point : history.training) result.push_back(point.loss);
  return result;
}

// Puts a limit on the size of files while it lives: what a full disk is to a writer.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_ = {};
  void (*handler_)(int) = nullptr;
};

class Training : public OnEveryDevice {
 protected:
  TempDir folder_;
};

TEST_P(Training, IsTheLoopOneWouldWriteByHand) {
  constexpr int64_t kSteps = 23;
  Model by_hand(device());
  Draws draws(9, device());
  const MinibatchSampler sampler(kData, 5, draws);
  std::vector<double> wanted;
  for (int64_t step = 0; step < kSteps; ++step) {
    draws.set_step(step);
    by_hand.parameters.zero_grad();
    Tape tape;
    const Variable loss = by_hand.loss(tape, sampler.draw());
    tape.backward(loss);
    by_hand.optimiser.step();
    wanted.push_back(static_cast<double>(loss.value().item()));
  }
  for (const bool graph : {false, true}) {
    Model model(device());
    Trainer trainer(model.optimiser, kData,
                    {.steps = kSteps, .batch = 5, .seed = 9, .report_every = 1, .graph = graph});
    const History& history = trainer.train(model.loss());
    EXPECT_EQ(model.values(), by_hand.values()) << "bit for bit, graph = " << graph;
    EXPECT_EQ(losses(history), wanted) << "graph = " << graph;
    EXPECT_EQ(history.steps, kSteps);
  }
}

TEST_P(Training, DrawsAnewInEveryStepOfAGraph) {
  Model model(device(), [](Parameters& p) { return sgd(p, {.rate = 0}); });
  Trainer trainer(model.optimiser, kData, {.steps = 12, .report_every = 1});
  const auto all = losses(trainer.train(model.loss()));
  EXPECT_EQ(std::set<double>(all.begin(), all.end()).size(), 12u) << "same parameters, same data, other draws";
}

TEST_P(Training, LowersTheLoss) {
  Model model(device());
  const double before = model.validation();
  Trainer trainer(model.optimiser, kData, {.epochs = 10, .batch = 8, .report_every = 10});
  EXPECT_EQ(trainer.total_steps(), 47) << "370 / 8, rounded up";
  const History& history = trainer.train(model.loss());
  EXPECT_LT(model.validation(), before - 20);
  ASSERT_EQ(history.training.size(), 5u);
  EXPECT_EQ(history.training[3].step, 40);
  EXPECT_EQ(history.training[4].step, 47);
  EXPECT_GT(history.training[4].gradient_norm, 0);
}

TEST_P(Training, ReadsTheLossesBackInTimeWhateverTheInterval) {
  Model model(device(), [](Parameters& p) { return sgd(p, {.rate = 0}); });
  Model other(device(), [](Parameters& p) { return sgd(p, {.rate = 0}); });
  const int64_t steps = device().is_cuda() ? 1030 : 2500;  // more than the ring of 1024 holds
  Trainer rarely(model.optimiser, kData, {.steps = steps, .batch = 1, .report_every = 100000});
  Trainer often(other.optimiser, kData, {.steps = steps, .batch = 1, .report_every = 1});
  double sum = 0;
  for (const double loss : losses(often.train(other.loss()))) sum += loss;
  EXPECT_DOUBLE_EQ(rarely.train(model.loss()).training.at(0).loss, sum / static_cast<double>(steps));
}

TEST_P(Training, ResumesBitForBit) {
  const std::vector<std::pair<std::string, OptimiserOf>> optimisers = {
      {"sgd", [](Parameters& p) { return sgd(p, {.rate = 0.001}); }},
      {"momentum", [](Parameters& p) { return sgd(p, {.rate = 0.001, .momentum = 0.9, .nesterov = true}); }},
      {"adam", [](Parameters& p) { return adam(p); }},
      {"adamw", default_adam}};
  for (const auto& [name, optimiser_of] : optimisers) {
    for (const Sampling sampling : {Sampling::epochs, Sampling::with_replacement}) {
      const TrainerOptions options = {.steps = 30,
                                      .batch = 5,
                                      .minibatches = {sampling, LastBatch::pad},
                                      .seed = 4,
                                      .report_every = 5,
                                      .validate_every = 5,
                                      .restore_best = false};
      Model whole(device(), optimiser_of);
      Trainer uninterrupted(whole.optimiser, kData, options);
      uninterrupted.train(whole.loss(), [&] { return whole.validation(); });

      TrainerOptions part = options;
      part.checkpoint = folder_ / name + (sampling == Sampling::epochs ? "1" : "2");
      for (const int64_t until : {10, 15, 30}) {
        part.steps = until;
        Model model(device(), optimiser_of);
        Trainer trainer(model.optimiser, kData, part);
        trainer.train(model.loss(), [&] { return model.validation(); });
        if (until < 30) continue;
        EXPECT_EQ(model.values(), whole.values()) << name;
        EXPECT_EQ(losses(trainer.history()), losses(uninterrupted.history())) << name;
        ASSERT_EQ(trainer.history().validation.size(), 6u);
        for (std::size_t i = 0; i < 6; ++i) {
          EXPECT_EQ(trainer.history().validation[i].value, uninterrupted.history().validation[i].value);
        }
      }
    }
  }
}

TEST_P(Training, StopsEarlyAndEndsWithTheBestParameters) {
  for (const bool maximise : {false, true}) {
    const std::vector<double> values = {5, 4, 3, 2.95, 3.5, 0};
    Model model(device());
    std::vector<Floats> seen;
    TrainerOptions options = {.steps = 100,
                              .batch = 4,
                              .validate_every = 3,
                              .validation_goal = maximise ? Goal::maximise : Goal::minimise,
                              .patience = 2,
                              .min_delta = 0.1};
    Trainer trainer(model.optimiser, kData, options);
    const History& history = trainer.train(model.loss(), [&] {
      seen.push_back(model.values());
      return (maximise ? -1 : 1) * values.at(seen.size() - 1);
    });
    EXPECT_TRUE(history.stopped_early);
    EXPECT_EQ(history.steps, 15) << "two validations after the third without more than min_delta";
    EXPECT_EQ(history.best_step, 9);
    EXPECT_EQ(std::abs(history.best_value), 3);
    EXPECT_EQ(history.validation.size(), 5u);
    EXPECT_EQ(model.values(), seen[2]);
    EXPECT_NE(model.values(), seen[4]);
  }
}

TEST_P(Training, RemembersTheBestAndThePatienceAcrossAResume) {
  const std::vector<double> values = {5, 3, 4, 4, 4, 4};
  std::size_t calls = 0;
  std::vector<Floats> seen;
  const TrainerOptions options = {
      .steps = 100, .validate_every = 3, .patience = 3, .checkpoint = folder_ / "c", .checkpoint_every = 3};
  for (int run = 0; run < 3; ++run) {
    Model model(device());
    Trainer trainer(model.optimiser, kData, options);
    const auto validation = [&] {
      if (calls == 3 && run == 0) throw std::runtime_error("interrupted");
      seen.push_back(model.values());
      return values.at(calls++);
    };
    if (run == 0) {
      EXPECT_THROW(trainer.train(model.loss(), validation), std::runtime_error);
      continue;
    }
    trainer.train(model.loss(), validation);
    EXPECT_EQ(trainer.history().steps, 15) << "run " << run;
    EXPECT_EQ(trainer.history().validation.size(), 5u);
    EXPECT_EQ(model.values(), seen[1]) << "the best was found before the interruption";
  }
  EXPECT_EQ(calls, 5u) << "a run that has stopped early is not taken up again";
}

// The first step whose minibatch holds the datum.
int64_t first_step_with(int64_t datum, Device device, int64_t batch, uint64_t seed) {
  Draws draws(seed, device);
  const MinibatchSampler sampler(kData, batch, draws);
  for (int64_t step = 0;; ++step) {
    draws.set_step(step);
    for (const int64_t index : sampler.draw().indices.to_host()) {
      if (index == datum) return step;
    }
  }
}

Floats data_with(int64_t datum, float value) {
  Floats data = random_normals(kData * kColumns, 2);
  data[static_cast<std::size_t>(datum * kColumns)] = value;
  return data;
}

TEST_P(Training, NamesTheStepOfALossThatIsNotFiniteAndLeavesTheCheckpoint) {
  constexpr int64_t kBad = 21;
  int64_t step = 0;
  uint64_t seed = 0;
  while (step < 4) step = first_step_with(kBad, device(), 5, ++seed);
  Model model(device(), default_adam, data_with(kBad, NAN));
  const std::string path = folder_ / "c";
  Trainer trainer(model.optimiser, kData,
                  {.steps = 50, .batch = 5, .seed = seed, .checkpoint = path, .checkpoint_every = 2});
  const std::string message = message_of<NumericalError>([&] { trainer.train(model.loss()); });
  EXPECT_EQ(message, "Trainer::train: the loss of step " + std::to_string(step) +
                         " is nan; a smaller learning rate or clip_norm may help");
  const SafeTensors saved = read_safetensors(path);
  EXPECT_EQ(saved.at("trainer.counters").as<int64_t>()[0], step / 2 * 2);
  for (const float value : saved.at("parameter.weight").as<float>()) EXPECT_TRUE(std::isfinite(value));
  for (const float value : model.values()) EXPECT_TRUE(std::isfinite(value)) << "the parameters are not destroyed";
}

TEST_P(Training, SkipsGradientsThatAreNotFiniteAsOftenAsAllowed) {
  constexpr int64_t kBad = 21;
  const int64_t step = first_step_with(kBad, device(), 5, 3);
  // At zero weights the logits are zero whatever the data, but the gradient overflows.
  const auto still = [](Parameters& p) { return sgd(p, {.rate = 0}); };
  const auto model_of = [&] {
    auto model = std::make_unique<Model>(device(), still, data_with(kBad, 3e38f));
    model->parameters["weight"].value.copy_from(Tensor<float>::zeros({kClasses, kColumns}, device()));
    return model;
  };
  const auto allowing = model_of();
  Trainer patient(allowing->optimiser, kData, {.epochs = 3, .batch = 5, .seed = 3, .skips_allowed = 3});
  EXPECT_EQ(patient.train(allowing->loss()).skipped, 3);
  const auto refusing = model_of();
  Trainer strict(refusing->optimiser, kData, {.epochs = 3, .batch = 5, .seed = 3});
  EXPECT_EQ(message_of<NumericalError>([&] { strict.train(refusing->loss()); }),
            "Trainer::train: the gradient of step " + std::to_string(step) +
                " is not finite (loss 0); 1 such steps so far, 0 allowed");
}

TEST_P(Training, StopsAtAValidationThatIsNaN) {
  Model model(device());
  Trainer trainer(model.optimiser, kData, {.steps = 9, .validate_every = 4});
  EXPECT_EQ(message_of<NumericalError>([&] { trainer.train(model.loss(), [] { return std::nan(""); }); }),
            "Trainer::train: the validation after step 3 is NaN");
}

TEST_P(Training, RefusesADamagedCheckpointAndChangesNothing) {
  const std::string path = folder_ / "c";
  const TrainerOptions options = {.steps = 6, .batch = 5, .validate_every = 2, .checkpoint = path};
  {
    Model model(device());
    Trainer(model.optimiser, kData, options).train(model.loss(), [&] { return model.validation(); });
  }
  const std::string bytes = get(path);
  Model model(device());
  const Floats before = model.values();
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    put(path, bytes.substr(0, size));
    EXPECT_THROW(Trainer(model.optimiser, kData, options), FileError) << size << " bytes";
    EXPECT_EQ(model.values(), before) << size << " bytes";
    EXPECT_EQ(model.optimiser.state().updates, 0);
    EXPECT_EQ(get(path).size(), size) << "nor is the file";
  }
  put(path, bytes);
  EXPECT_EQ(Trainer(model.optimiser, kData, options).step(), 6);
}

TEST_P(Training, RefusesACheckpointOfAnotherTraining) {
  const std::string path = folder_ / "c";
  const TrainerOptions options = {.steps = 2, .batch = 5, .seed = 1, .checkpoint = path};
  {
    Model model(device());
    Trainer(model.optimiser, kData, options).train(model.loss());
  }
  const auto refusal = [&](Optimiser& optimiser, int64_t data, const TrainerOptions& changed) {
    return message_of<FileError>([&] { Trainer(optimiser, data, changed); });
  };
  Model model(device());
  Model with_sgd(device(), [](Parameters& p) { return sgd(p); });
  EXPECT_EQ(refusal(with_sgd.optimiser, kData, options),
            path + ": is a checkpoint with optimiser adamw; this training has optimiser sgd");
  EXPECT_EQ(refusal(model.optimiser, 38, options), path + ": is a checkpoint with data 37; this training has data 38");
  TrainerOptions other = options;
  other.seed = 2;
  EXPECT_EQ(refusal(model.optimiser, kData, other), path + ": is a checkpoint with seed 1; this training has seed 2");
  other = options;
  other.batch = 6;
  EXPECT_EQ(refusal(model.optimiser, kData, other), path + ": is a checkpoint with batch 5; this training has batch 6");
  other = options;
  other.minibatches.sampling = Sampling::with_replacement;
  EXPECT_EQ(refusal(model.optimiser, kData, other),
            path + ": is a checkpoint with sampling epochs; this training has sampling with_replacement");

  Parameters parameters;
  parameters.add("weight", Tensor<float>::zeros({2, 2}, device()));
  parameters.add("bias", Tensor<float>::zeros({kClasses}, device()));
  Optimiser optimiser = default_adam(parameters);
  EXPECT_EQ(refusal(optimiser, kData, options),
            path + ": Optimiser::load_state: first.weight has shape (3, 4); (2, 2) is needed");
  write_safetensors(path, {}, {});
  EXPECT_EQ(refusal(model.optimiser, kData, options), path + ": is no training checkpoint");
  other = options;
  other.resume = false;
  EXPECT_EQ(Trainer(model.optimiser, kData, other).step(), 0);
}

TEST_P(Training, SurvivesAFullDisk) {
  const std::string path = folder_ / "c";
  Model whole(device());
  Trainer(whole.optimiser, kData, {.steps = 20, .batch = 5}).train(whole.loss());

  Model model(device());
  const TrainerOptions options = {.steps = 20, .batch = 5, .checkpoint = path, .checkpoint_every = 6};
  {
    Model first(device());
    TrainerOptions part = options;
    part.steps = 6;
    Trainer(first.optimiser, kData, part).train(first.loss());
  }
  const std::string bytes = get(path);
  Trainer trainer(model.optimiser, kData, options);
  {
    const FileSizeLimit limit(100);
    EXPECT_THROW(trainer.train(model.loss()), FileError);
  }
  EXPECT_EQ(get(path), bytes) << "the checkpoint before is as it was";
  EXPECT_EQ(folder_.names().size(), 1u) << "and nothing else is left behind";
  trainer.train(model.loss());
  EXPECT_EQ(model.values(), whole.values()) << "training goes on where it was";
  EXPECT_NE(get(path), bytes);
}

TEST_P(Training, WorksForAnEmptyParameterAndAScalar) {
  Parameters parameters;
  parameters.add("none", Tensor<float>::zeros({0, 3}, device()));
  Parameter& w = parameters.add("scalar", Tensor<float>::full({}, 3.0f, device()));
  Optimiser optimiser = sgd(parameters, {.rate = 0.5});
  const TrainerOptions options = {.steps = 3, .checkpoint = folder_ / "c"};
  Trainer trainer(optimiser, 1, options);
  trainer.train([&](Tape& tape, const Minibatch&) { return tape.watch(w); });
  EXPECT_EQ(w.value.item(), 1.5f);
  EXPECT_EQ(Trainer(optimiser, 1, options).step(), 3);
}

TEST_P(Training, RefusesOptionsThatMakeNoSense) {
  Model model(device());
  const auto message = [&](const TrainerOptions& options) {
    return message_of<ArgumentError>([&] { Trainer(model.optimiser, kData, options); });
  };
  EXPECT_EQ(message({}), "Trainer: steps is 0 and epochs is 0; exactly one of them above 0 is needed");
  EXPECT_EQ(message({.steps = 1, .epochs = 1}),
            "Trainer: steps is 1 and epochs is 1; exactly one of them above 0 is needed");
  EXPECT_EQ(message({.steps = int64_t{1} << 30}), "Trainer: 1073741824 steps or more; less than 2^30 is needed");
  EXPECT_EQ(message({.steps = 1, .report_every = 0}), "Trainer: report_every is 0; at least 1 is needed");
  EXPECT_EQ(message({.steps = 1, .patience = 2}),
            "Trainer: patience is set but validate_every is 0; validate_every > 0 is needed");
  Trainer trainer(model.optimiser, kData, {.steps = 1, .validate_every = 1});
  EXPECT_EQ(message_of<ArgumentError>([&] { trainer.train(model.loss()); }),
            "Trainer::train: validate_every is 1 but there is no validation function");
  Trainer vector(model.optimiser, kData, {.steps = 1});
  EXPECT_EQ(message_of<ShapeError>([&] {
              vector.train([&](Tape& tape, const Minibatch&) { return tape.watch(model.parameters["bias"]); });
            }),
            "Trainer::train: the loss has shape (3,); exactly 1 element is needed");
}

DGM_ON_EVERY_DEVICE(Training);

TEST(ProgressBars, ShowCountFiguresAndTimeLeft) {
  EXPECT_EQ(ProgressBar::line(1200, 3000, "loss 1.25", 6.2),
            "[=========>              ] 1200/3000  loss 1.25  ETA 0:07");
  EXPECT_EQ(ProgressBar::line(0, 10, "", INFINITY), "[>                       ]  0/10");
  EXPECT_EQ(ProgressBar::line(10, 10, "", 0), "[========================] 10/10  ETA 0:00");
  EXPECT_EQ(ProgressBar::line(1, 2, "", 3725), "[============>           ] 1/2  ETA 1:02:05");
}

// ---- killed at any moment -----------------------------------------------------------------------

constexpr const char* kChildCheckpoint = "DGM_TEST_CHECKPOINT";

TrainerOptions endurance(const std::string& checkpoint) {
  return {.steps = 150,
          .batch = 5,
          .seed = 12,
          .report_every = 10,
          .validate_every = 7,
          .checkpoint = checkpoint,
          .checkpoint_every = 2};
}

// A pause at each validation keeps even the fastest machine from ending before it is killed.
void endure(Device device, const std::string& checkpoint, std::chrono::milliseconds pause = {}) {
  Model model(device);
  Trainer trainer(model.optimiser, kData, endurance(checkpoint));
  trainer.train(model.loss(), [&] {
    std::this_thread::sleep_for(pause);
    return model.validation();
  });
}

class KilledTraining : public OnEveryDevice {};

// What the other test starts as a process of its own, and kills.
TEST_P(KilledTraining, DISABLED_Child) {
  endure(device(), std::getenv(kChildCheckpoint), std::chrono::milliseconds(10));
}

// Identity of a file: another one after every atomic replacement.
std::pair<ino_t, int64_t> identity(const std::string& path) {
  struct stat info = {};
  if (::stat(path.c_str(), &info) != 0) return {0, 0};
  return {info.st_ino, int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec};
}

TEST_P(KilledTraining, EndsWithTheBitsOfOneThatWasNot) {
  const TempDir folder;
  endure(device(), folder / "whole");

  const std::string path = folder / "killed";
  const std::string filter = std::string("--gtest_filter=Device/KilledTraining.DISABLED_Child/") + GetParam();
  std::mt19937 generator(std::random_device{}());
  int killed = 0;
  for (bool finished = false; !finished;) {
    const auto before = identity(path);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // Only exec and what may be called before it: other threads' locks are held for ever here.
      ::setenv(kChildCheckpoint, path.c_str(), 1);
      ::execl("/proc/self/exe", "train_test", filter.c_str(), "--gtest_also_run_disabled_tests", "--gtest_brief=1",
              static_cast<char*>(nullptr));
      ::_exit(127);
    }
    int status = 0;
    // After the first new checkpoint, so that every life makes headway, at a random moment.
    bool exited = false;
    while (!exited && identity(path) == before) {
      exited = ::waitpid(child, &status, WNOHANG) == child;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (!exited && killed < 6) {
      std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution<>(0, 20000)(generator)));
      ::kill(child, SIGKILL);
    }
    if (!exited) exited = ::waitpid(child, &status, 0) == child;
    ASSERT_TRUE(exited);
    if (WIFSIGNALED(status)) {
      ASSERT_EQ(WTERMSIG(status), SIGKILL);
      ++killed;
      EXPECT_NO_THROW(read_safetensors(path)) << "whole after kill " << killed;
    } else {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      finished = true;
    }
  }
  EXPECT_GE(killed, 3) << "too fast to be killed: the test shows nothing";
  EXPECT_EQ(get(path) == get(folder / "whole"), true) << "after " << killed << " kills: checkpoints differ";
}

DGM_ON_EVERY_DEVICE(KilledTraining);

}  // namespace
}  // namespace dgm::test
