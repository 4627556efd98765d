// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/text_table.hpp>

#include <gtest/gtest.h>

#include <limits>

namespace dgm {
namespace {

TEST(TextTable, AlignsNumbersRightAndTextLeft) {
  TextTable table({"model", "log-lik", "share"});
  table.row({"K = 2", "-1130.264", "95 %"}).row({"größer", "3", "-"}).row({"", "1,234", ""});
  EXPECT_EQ(table.str(),
            "model     log-lik  share\n"
            "------  ---------  -----\n"
            "K = 2   -1130.264   95 %\n"
            "größer          3      -\n"
            "            1,234\n");
}

TEST(TextTable, PrintsAHeaderAlone) { EXPECT_EQ(TextTable({"a", "bc"}).str(), "a  bc\n-  --\n"); }

TEST(TextTable, RefusesRowsOfAnotherWidth) {
  EXPECT_THROW(TextTable({}), ArgumentError);
  EXPECT_THROW(TextTable({"a", "b"}).row({"1"}), ArgumentError);
}

TEST(TextNumbers, AreFixedGeneralAndGrouped) {
  EXPECT_EQ(fixed(-1130.2644, 3), "-1130.264");
  EXPECT_EQ(fixed(-0.0001, 2), "0.00");
  EXPECT_EQ(fixed(1e300, 0).size(), 301u);
  EXPECT_EQ(fixed(std::numeric_limits<double>::infinity(), 2), "inf");
  EXPECT_EQ(fixed(-std::numeric_limits<double>::infinity(), 2), "-inf");
  EXPECT_EQ(fixed(std::numeric_limits<double>::quiet_NaN(), 2), "nan");
  EXPECT_EQ(general(0.000123456789, 3), "0.000123");
  EXPECT_EQ(general(1e-7), "1e-07");
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(grouped(100000), "100,000");
}

}  // namespace
}  // namespace dgm
