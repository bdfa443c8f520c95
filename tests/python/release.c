// Deleters of DLPack exports, for threads that may hold an exception or no interpreter: the context
// of an export is a count of those that nobody has given back.
#include <stdint.h>

typedef struct {
  char tensor[48];
  int64_t* count;
  void* deleter;
} Managed;

typedef struct {
  uint32_t version[2];
  int64_t* count;
  void* deleter;
} ManagedVersioned;

void release(Managed* managed) { __atomic_sub_fetch(managed->count, 1, __ATOMIC_SEQ_CST); }

void release_versioned(ManagedVersioned* managed) {
  __atomic_sub_fetch(managed->count, 1, __ATOMIC_SEQ_CST);
}
