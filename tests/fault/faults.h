/*
 * What tests/fault/faults.c is told: the contents of the file that FSYNCFS_FAULTS names, mapped by who injects and by whom it is done to. May
 * change at any time. tests/fault/faults.py writes the same.
 */
#pragma once

#include <stdint.h>

enum fault_class {
        FAULT_READ = 1,
        FAULT_WRITE = 2,    /* write, pwrite, chmod, times */
        FAULT_SYNC = 4,     /* fsync, fdatasync */
        FAULT_NAMES = 8,    /* rename, unlink, mkdir */
        FAULT_OPEN = 16,    /* for reading */
        FAULT_MAKE = 32,    /* open for writing */
        FAULT_MAP = 64,     /* mmap of a file */
        FAULT_LENGTH = 128, /* ftruncate, fallocate */
        FAULT_MEMORY = 256, /* malloc and its kin: of this process, whatever the device */
};

struct faults {
        _Atomic uint64_t device; /* st_dev of the file system that is meant; 0: none, FAULT_MEMORY excepted */
        _Atomic uint64_t classes; /* a set of enum fault_class */
        _Atomic uint64_t error;   /* errno; 0: no call fails */
        _Atomic int64_t skip;     /* so many calls that are meant pass … */
        _Atomic int64_t times;    /* … and then so many fail; negative: all */
        _Atomic uint64_t delay_us;
        _Atomic uint64_t stuck;        /* a call that would fail does not return */
        _Atomic uint64_t seen, failed; /* counted */
};
