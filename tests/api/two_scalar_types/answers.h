// What vllm::kU4B8 says of itself in each of two files of one program.
#pragma once

#include <cstddef>
#include <cstdint>

struct Answers {
  int size_bits;
  bool is_integer;
  std::int64_t id;
  int bits_from_id;
  std::size_t size;

  bool operator==(const Answers& other) const {
    return size_bits == other.size_bits && is_integer == other.is_integer && id == other.id &&
           bits_from_id == other.bits_from_id && size == other.size;
  }
};

Answers ask_ours();
Answers ask_the_other();

namespace {

// A function by a pointer that the compiler does not follow, so that the linker's choice is called.
template <class Function>
Function linked(Function function) {
  volatile Function opaque = function;
  return opaque;
}

template <class Type>
Answers ask(const Type* type) {
  const Type* constant = linked(type);
  const std::int64_t id = (constant->*linked(&Type::id))();
  const Type again = linked(&Type::from_id)(id);
  return {(constant->*linked(&Type::size_bits))(), (constant->*linked(&Type::is_integer))(), id,
          (again.*linked(&Type::size_bits))(), sizeof(Type)};
}

}  // namespace
