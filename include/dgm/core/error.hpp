// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace dgm {

/// Base of everything the library throws. what() names the function, the argument, what it is
/// and what is needed.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument has a value that the function cannot work with.
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// A tensor has a shape that the function cannot work with.
class ShapeError : public ArgumentError {
 public:
  using ArgumentError::ArgumentError;
};

/// Arguments live on different devices or streams.
class DeviceError : public ArgumentError {
 public:
  using ArgumentError::ArgumentError;
};

/// The build or the machine has no such backend.
class BackendUnavailable : public Error {
 public:
  using Error::Error;
};

/// A device has no room for an allocation.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

/// The CUDA runtime or one of its libraries reported an error.
class CudaError : public Error {
 public:
  using Error::Error;
};

/// A file cannot be read, written or understood; names the file and, where there is one, the line.
class FileError : public Error {
 public:
  using Error::Error;
};

/// A computation left the numbers: a NaN loss, a covariance that is not positive definite.
class NumericalError : public Error {
 public:
  using Error::Error;
};

}  // namespace dgm
