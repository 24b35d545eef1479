// What this machine is called and holds.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace gimbal {

/// "AMD EPYC 7B13, 4 threads" for the CPU; "cuda:0" elsewhere.
std::string machine_name(const c10::Device& device, int threads);

/// Memory that one process may use: the device's, or main memory (less where the system limits
/// this process and its children) shared by the processes of this machine.
double machine_memory_bytes(const c10::Device& device, int processes_on_machine);

}  // namespace gimbal
