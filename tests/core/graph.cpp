// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/graph.hpp>
#include <dgm/ops/log_sum_exp.hpp>
#include <dgm/train/optimiser.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"

#include <stdexcept>

namespace dgm::test {
namespace {

using Floats = std::vector<float>;

class Graphs : public OnEveryDevice {
 protected:
  // A step of descent on log sum exp of a parameter, with temporaries.
  struct Model {
    explicit Model(const Stream& stream)
        : optimiser((parameters.add("w", initial(stream)), adam(parameters, rate()))) {}
    static Tensor<float> initial(const Stream& stream) { return Tensor<float>::from({0, 1, 2, 3}, {2, 2}, stream); }
    static AdamOptions rate() { return {.rate = Schedule::cosine(0.1, 10).with_warmup(2)}; }
    void step() {
      parameters.zero_grad();
      Tape tape;
      const Variable y = log_sum_exp(tape.watch(parameters["w"]));
      tape.backward(y, Tensor<float>::full({2}, 1.0f, parameters.stream()));
      optimiser.step();
    }
    Floats values() const { return parameters["w"].value.to_host(); }
    Parameters parameters;
    Optimiser optimiser;
  };
};

TEST_P(Graphs, ReplaysGiveTheBitsOfEagerSteps) {
  const Stream stream = Stream::create(device());
  Model eager(stream);
  for (int i = 0; i < 9; ++i) eager.step();

  Model replayed(stream);
  replayed.step();
  {
    const Graph graph = Graph::capture(stream, [&] { replayed.step(); });
    EXPECT_EQ(replayed.optimiser.state().updates, 1) << "capturing does not run";
    for (int i = 0; i < 8; ++i) {
      graph.launch();
      // Work beside the graph must not get the graph's memory.
      const auto other = Tensor<float>::full({2, 2}, 77.0f, stream);
      EXPECT_EQ(other.to_host(), (Floats{77, 77, 77, 77}));
    }
    EXPECT_EQ(replayed.values(), eager.values());
    EXPECT_EQ(replayed.optimiser.state().updates, 9);
  }
  replayed.step();
  eager.step();
  EXPECT_EQ(replayed.values(), eager.values()) << "eagerly, after the graph is gone";
}

TEST_P(Graphs, KeepWhatTheirWorkOwns) {
  const Stream stream = Stream::create(device());
  const auto x = Tensor<float>::zeros({3}, stream);
  Graph graph = [&] {
    auto source = Tensor<float>::from({1, 2, 3}, {3}, stream);
    return Graph::capture(stream, [source, to = x]() mutable { to.copy_from(source); });
  }();
  const auto other = Tensor<float>::from({9, 9, 9}, {3}, stream);
  const Graph moved = std::move(graph);
  moved.launch();
  EXPECT_EQ(x.to_host(), (Floats{1, 2, 3}));
}

TEST_P(Graphs, AnExceptionAbandonsTheCapture) {
  if (!device().is_cuda()) return;  // the CPU records nothing
  const Stream stream = Stream::create(device());
  Model model(stream);
  model.step();
  const Floats before = model.values();
  const auto held_before = stream.memory().used;
  EXPECT_THROW(Graph::capture(stream,
                              [&] {
                                model.step();
                                throw std::out_of_range("on purpose");
                              }),
               std::out_of_range);
  EXPECT_EQ(stream.memory().used, held_before);
  EXPECT_EQ(model.values(), before);
  const Graph graph = Graph::capture(stream, [&] { model.step(); });
  graph.launch();
  EXPECT_NE(model.values(), before);
}

TEST_P(Graphs, RefuseToWaitOrToReadTheHostWhileCapturing) {
  if (!device().is_cuda()) return;  // the CPU records nothing
  const Stream stream = Stream::create(device());
  const auto x = Tensor<float>::zeros({3}, stream);
  EXPECT_EQ(message_of<ArgumentError>([&] { Graph::capture(stream, [&] { x.to_host(); }); }),
            "the stream is being captured in a graph, in which nothing can be waited for or read; "
            "read results after launch()");
  EXPECT_EQ(message_of<ArgumentError>([&] {
              Graph::capture(stream, [&] { Tensor<float>::from({1, 2}, {2}, stream); });
            }),
            "copy from the host: the stream is being captured in a graph; make the tensor before");
  EXPECT_EQ(message_of<ArgumentError>([&] { Graph::capture(stream, [&] { Graph::capture(stream, [] {}); }); }),
            "graph capture: the stream is already being captured");
  EXPECT_EQ(x.to_host(), (Floats{0, 0, 0}));
}

DGM_ON_EVERY_DEVICE(Graphs);

}  // namespace
}  // namespace dgm::test
