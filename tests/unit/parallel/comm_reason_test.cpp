#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "gimbal/parallel/comm/comm_c10d.h"

namespace gimbal {
namespace {

std::string reason_of_text(const std::string& text) { return reason_of(std::runtime_error(text)); }

TEST(CommReason, KeepsWhatHasHappenedOfGloosMessage) {
  EXPECT_EQ(reason_of_text("[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed "
                           "by peer [127.0.0.1]:24487. This is typically caused by a remote worker "
                           "crashing. Check the logs of the remote worker."),
            "Connection closed by peer [127.0.0.1]:24487");
  EXPECT_EQ(reason_of_text("Gloo connectFullMesh failed with [/src/gloo/transport/tcp/pair.cc:537] "
                           "Read error [::1]:22245: Connection reset by peer"),
            "Gloo connectFullMesh failed with Read error [::1]:22245: Connection reset by peer");
  EXPECT_EQ(reason_of_text("[enforce fail at ../gloo/transport/tcp/device.cc:83] ifa != nullptr. "
                           "Unable to find interface for: [eth7]"),
            "ifa != nullptr. Unable to find interface for: [eth7]");
}

TEST(CommReason, LeavesOutTheStackTrace) {
  EXPECT_EQ(reason_of_text("wait timeout after 3000ms\nException raised from doWait at "
                           "/src/TCPStore.cpp:1 (most recent call first):\nframe #0"),
            "wait timeout after 3000ms");
}

TEST(CommReason, KeepsBracketsThatAreNoPlaces) {
  const std::string text = "rank [0/2] of [a/b:c], [:1], [/d:] and an open [/e.cc:3";
  EXPECT_EQ(reason_of_text(text), text);
}

}  // namespace
}  // namespace gimbal
