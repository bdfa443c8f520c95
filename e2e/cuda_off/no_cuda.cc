#error "CUDA is off: this must not be compiled"
