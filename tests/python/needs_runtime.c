// A library that does not load without fake_runtime.c.
int fake_runtime(void);

int needs_runtime(void) { return fake_runtime(); }
