// Has nothing to do with CUDA.
int main() { return 0; }
