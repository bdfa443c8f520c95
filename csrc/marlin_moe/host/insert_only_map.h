// A map that keeps what was asked of the driver once: it only grows, and reading takes no lock.
#pragma once

#include <atomic>
#include <cstddef>

namespace marlin_moe {

// For a few thousand entries, in static storage. Key has == and a hash(). Two threads that find a
// key missing may both add it, with values that are alike; entries are never freed, so that a
// pointer to one stays valid.
template <class Key, class Value>
class InsertOnlyMap {
 public:
  // The key's value, or null.
  const Value* find(const Key& key) const {
    const Entry* entry = bucket(key).load(std::memory_order_acquire);
    while (entry != nullptr && !(entry->key == key)) entry = entry->next;
    return entry == nullptr ? nullptr : &entry->value;
  }

  const Value* add(const Key& key, const Value& value) {
    std::atomic<Entry*>& first = bucket(key);
    Entry* entry = new Entry{key, value, first.load(std::memory_order_relaxed)};
    while (!first.compare_exchange_weak(entry->next, entry, std::memory_order_release,
                                        std::memory_order_relaxed)) {
    }
    return &entry->value;
  }

 private:
  struct Entry {
    Key key;
    Value value;
    Entry* next;
  };
  static constexpr std::size_t kBuckets = 1024;

  std::atomic<Entry*>& bucket(const Key& key) { return buckets_[key.hash() % kBuckets]; }
  const std::atomic<Entry*>& bucket(const Key& key) const {
    return buckets_[key.hash() % kBuckets];
  }

  std::atomic<Entry*> buckets_[kBuckets] = {};
};

}  // namespace marlin_moe
