// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/safetensors.hpp>
#include <dgm/models/fit_mixture.hpp>
#include <dgm/models/standardised_mixture.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"
#include "tests/support/reference.hpp"

#include <cmath>

namespace dgm::test {
namespace {

class StandardisedMixtures : public OnEveryDevice {
 protected:
  StandardisedMixture model(Covariance covariance) {
    StandardisedMixture result = {
        GaussianMixture(2, 2, covariance, device()), {{100, -1}, {10, 0.5}}, {"length, mm", "größe"}};
    const std::vector<double> full = {1, 0.3, 0.3, 1, 0.5, 0, 0, 2};
    const std::vector<double> diagonal = {1, 1, 0.5, 2};
    result.mixture.set({1, 3}, {-1, 0, 1, 0.5}, covariance == Covariance::full ? full : diagonal);
    return result;
  }
  const Table table_ = {3, 2, {90, -1, 110, -0.75, 123, 4}, {}};
  TempDir dir_;
};

TEST_P(StandardisedMixtures, ReadBackBitForBit) {
  for (const Covariance covariance : {Covariance::diagonal, Covariance::full}) {
    const StandardisedMixture saved = model(covariance);
    saved.save(dir_ / "m.safetensors");
    const StandardisedMixture loaded = StandardisedMixture::load(dir_ / "m.safetensors", device());
    EXPECT_EQ(loaded.log_prob(table_), saved.log_prob(table_));
    EXPECT_EQ(loaded.columns, saved.columns);
    EXPECT_EQ(loaded.covariances(), saved.covariances());
    EXPECT_EQ(loaded.mixture.covariance(), covariance);
  }
}

TEST_P(StandardisedMixtures, GiveDensitiesInTheUnitsOfTheTable) {
  // One component is a Gaussian with mean shift + scale * mean and deviation scale * deviation.
  StandardisedMixture one = {GaussianMixture(1, 1, Covariance::full, device()), {{100}, {10}}, {}};
  one.mixture.set({1}, {0.5}, {4});
  EXPECT_NEAR(one.means()[0], 105, 1e-4);
  EXPECT_NEAR(one.covariances()[0], 400, 1e-3);
  const double z = (93.0 - 105) / 20;
  EXPECT_NEAR(one.log_prob({1, 1, {93}, {}})[0], -0.5 * z * z - std::log(20 * std::sqrt(2 * std::acos(-1.0))), 1e-5);
}

TEST_P(StandardisedMixtures, RefuseFilesThatAreNoMixture) {
  const std::string path = dir_ / "m.safetensors";
  model(Covariance::full).save(path);
  const SafeTensors good = read_safetensors(path);
  const auto refused = [&](const SafeTensors& content) {
    write_safetensors(path, content.tensors, content.metadata);
    try {
      StandardisedMixture::load(path, device());
    } catch (const FileError& error) {
      return std::string(error.what()).find(path) != std::string::npos;
    }
    return false;
  };
  SafeTensors bad = good;
  bad.metadata["format"] = "else";
  EXPECT_TRUE(refused(bad));
  bad = good;
  bad.metadata["covariance"] = "round";
  EXPECT_TRUE(refused(bad));
  bad = good;
  bad.metadata["columns"] = "[1";
  EXPECT_TRUE(refused(bad));
  for (const auto& [name, tensor] : good.tensors) {
    bad = good;
    bad.tensors.erase(name);
    EXPECT_TRUE(refused(bad)) << "without " << name;
    bad = good;
    bad.tensors[name] = StoredTensor::of(std::vector<float>{1, 2, 3}, {3});
    EXPECT_TRUE(refused(bad)) << name << " of another shape";
  }
  EXPECT_THROW(StandardisedMixture::load(dir_ / "none", device()), FileError);
}

TEST_P(StandardisedMixtures, RefuseTablesOfOtherColumns) {
  EXPECT_THROW(model(Covariance::full).log_prob({1, 3, {1, 2, 3}, {}}), ShapeError);
}

DGM_ON_EVERY_DEVICE(StandardisedMixtures);

}  // namespace
}  // namespace dgm::test
