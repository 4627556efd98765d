// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/safetensors.hpp>
#include <dgm/models/standardised_mixture.hpp>

#include "host/core/check.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

namespace dgm {

namespace {

constexpr const char* kFormat = "dgm.gaussian_mixture.1";

}  // namespace

Tensor<float> StandardisedMixture::standardised(const Table& table) const {
  return Tensor<float>::from(standardisation.apply(table),
                             {static_cast<int64_t>(table.rows), static_cast<int64_t>(table.cols)}, mixture.stream());
}

std::vector<double> StandardisedMixture::log_prob(const Table& table) const {
  const std::vector<float> values = mixture.log_prob(standardised(table)).to_host();
  std::vector<double> result(values.begin(), values.end());
  const double log_volume = standardisation.log_volume();
  for (double& value : result) value -= log_volume;
  return result;
}

std::vector<double> StandardisedMixture::means() const {
  std::vector<double> means = mixture.means();
  const std::size_t dims = standardisation.shift.size();
  for (std::size_t i = 0; i < means.size(); ++i) means[i] = standardisation.restore(i % dims, means[i]);
  return means;
}

std::vector<double> StandardisedMixture::covariances() const {
  const std::vector<double> standard = mixture.covariances();
  const std::vector<double>& scale = standardisation.scale;
  const std::size_t dims = scale.size();
  const bool full = mixture.covariance() == Covariance::full;
  std::vector<double> result(static_cast<std::size_t>(mixture.components()) * dims * dims);
  for (std::size_t i = 0; i < result.size(); ++i) {
    const std::size_t a = i / dims % dims;
    const std::size_t b = i % dims;
    if (full) {
      result[i] = standard[i] * scale[a] * scale[b];
    } else if (a == b) {
      result[i] = standard[i / dims / dims * dims + a] * scale[a] * scale[a];
    }
  }
  return result;
}

void StandardisedMixture::save(const std::string& path) const {
  std::map<std::string, StoredTensor> tensors;
  for (const Parameter& parameter : mixture.parameters()) {
    tensors.emplace(parameter.name, StoredTensor::of(parameter.value.to_host(), parameter.value.shape().extents()));
  }
  const auto dims = mixture.dims();
  tensors.emplace("standardisation.shift", StoredTensor::of(standardisation.shift, {dims}));
  tensors.emplace("standardisation.scale", StoredTensor::of(standardisation.scale, {dims}));
  write_safetensors(path, tensors,
                    {{"format", kFormat},
                     {"covariance", mixture.covariance() == Covariance::full ? "full" : "diagonal"},
                     {"columns", nlohmann::json(columns).dump()}});
}

StandardisedMixture StandardisedMixture::load(const std::string& path, const Stream& stream) {
  const SafeTensors file = read_safetensors(path);
  const auto metadata = [&](const char* key) {
    const auto found = file.metadata.find(key);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  check<FileError>(metadata("format") == kFormat, path, ": is no Gaussian mixture: its format is \"",
                   metadata("format"), "\"; \"", kFormat, "\" is needed");
  const bool full = metadata("covariance") == "full";
  check<FileError>(full || metadata("covariance") == "diagonal", path, ": its covariance is \"", metadata("covariance"),
                   "\"; full or diagonal is needed");
  try {
    const std::vector<std::int64_t> shape = file.at("mean").shape;
    check<FileError>(shape.size() == 2 && shape[0] >= 1 && shape[1] >= 1, path, ": mean has ", shape.size(),
                     " axes; (K, D) is needed");
    StandardisedMixture result = {
        GaussianMixture(shape[0], shape[1], full ? Covariance::full : Covariance::diagonal, stream),
        {file.at("standardisation.shift").as<double>(), file.at("standardisation.scale").as<double>()},
        {}};
    std::map<std::string, Tensor<float>> values;
    for (const Parameter& parameter : result.mixture.parameters()) {
      const StoredTensor& stored = file.at(parameter.name);
      values.emplace(parameter.name, Tensor<float>::from(stored.as<float>(), Shape(stored.shape), stream));
    }
    result.mixture.parameters().load_values(values);
    const auto dims = static_cast<std::size_t>(shape[1]);
    const Standardisation& s = result.standardisation;
    bool sane = s.shift.size() == dims && s.scale.size() == dims;
    for (std::size_t d = 0; sane && d < dims; ++d) {
      sane = std::isfinite(s.shift[d]) && std::isfinite(s.scale[d]) && s.scale[d] > 0;
    }
    check<FileError>(sane, path, ": the standardisation is not one of ", dims, " columns");
    const nlohmann::json columns = nlohmann::json::parse(metadata("columns"));
    columns.get_to(result.columns);
    check<FileError>(result.columns.empty() || result.columns.size() == dims, path, ": names ", result.columns.size(),
                     " columns; ", dims, " are needed");
    return result;
  } catch (const ArgumentError& error) {
    throw FileError(text(path, ": ", error.what()));
  } catch (const nlohmann::json::exception& error) {
    throw FileError(text(path, ": the names of the columns cannot be read: ", error.what()));
  }
}

}  // namespace dgm
