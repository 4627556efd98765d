// SPDX-License-Identifier: Apache-2.0
// dladdr knows exported symbols only, and kernels are not exported: so read the ELF symbol table.
#include "symbol.hpp"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

namespace simt {
namespace {

struct Module {
  uintptr_t address;
  uintptr_t base;
  std::string path;
};

int find_module(dl_phdr_info* info, std::size_t, void* data) {
  Module& module = *static_cast<Module*>(data);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && module.address >= begin && module.address < begin + segment.p_memsz) {
      module.base = info->dlpi_addr;
      module.path = info->dlpi_name[0] == '\0' ? "/proc/self/exe" : info->dlpi_name;
      return 1;
    }
  }
  return 0;
}

template <class T>
std::vector<T> read(std::ifstream& file, uint64_t offset, uint64_t count) {
  std::vector<T> result(count);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(result.data()), static_cast<std::streamsize>(count * sizeof(T)));
  if (!file) result.clear();
  return result;
}

std::string mangled_name(const Module& module) {
  std::ifstream file(module.path, std::ios::binary);
  const auto header = read<ElfW(Ehdr)>(file, 0, 1);
  if (header.empty()) return "";
  const auto sections = read<ElfW(Shdr)>(file, header[0].e_shoff, header[0].e_shnum);
  for (const auto& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    const auto& strings = sections[section.sh_link];
    const auto names = read<char>(file, strings.sh_offset, strings.sh_size);
    for (const auto& symbol : read<ElfW(Sym)>(file, section.sh_offset, section.sh_size / sizeof(ElfW(Sym)))) {
      const uintptr_t begin = module.base + symbol.st_value;
      const bool hit = module.address == begin || (module.address > begin && module.address < begin + symbol.st_size);
      if ((symbol.st_info & 0xf) == STT_FUNC && symbol.st_shndx != SHN_UNDEF && hit && symbol.st_name < names.size()) {
        return names.data() + symbol.st_name;
      }
    }
  }
  return "";
}

}  // namespace

std::string symbol_name(const void* address) {
  Module module{reinterpret_cast<uintptr_t>(address), 0, ""};
  dl_iterate_phdr(find_module, &module);
  std::string name = mangled_name(module);
  if (name.empty()) {
    char hex[32];
    std::snprintf(hex, sizeof hex, "kernel at %p", address);
    return hex;
  }
  int status = 0;
  if (char* const demangled = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status)) {
    name = demangled;
    std::free(demangled);
  }
  return name;
}

}  // namespace simt
