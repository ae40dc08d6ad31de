/*
 * What tests/fault/faults.c is told: the contents of the file that FSYNCFS_FAULTS names, mapped by who injects and by whom it is done to. May
 * change at any time. tests/fault/faults.py writes the same.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum fault_class {
        FAULT_READ = 1,
        FAULT_WRITE = 2,        /* write, pwrite, chmod, times */
        FAULT_SYNC = 4,         /* fsync, fdatasync */
        FAULT_NAMES = 8,        /* rename, unlink, mkdir */
        FAULT_OPEN = 16,        /* for reading */
        FAULT_MAKE = 32,        /* open for writing */
        FAULT_MAP = 64,         /* mmap of a file */
        FAULT_LENGTH = 128,     /* ftruncate, fallocate */
        FAULT_MEMORY = 256,     /* malloc and its kin: of this process, whatever the device */
        FAULT_OWN_MEMORY = 512, /* the same where the program itself calls them, not a shared library */
        FAULT_RPC = 1024,       /* what a test does by faults_strike */
        FAULT_WIRE = 2048,      /* likewise */
};

struct faults {
        _Atomic uint64_t device;  /* st_dev of the file system that is meant; 0: none, memory excepted */
        _Atomic uint64_t classes; /* a set of enum fault_class */
        _Atomic uint64_t error;   /* errno; 0: no call fails */
        _Atomic int64_t skip;     /* so many calls that are meant pass … */
        _Atomic int64_t times;    /* … and then so many fail; negative: all */
        _Atomic uint64_t delay_us;
        _Atomic uint64_t stuck;        /* a call that would fail does not return */
        _Atomic uint64_t seen, failed; /* counted */
};

/* For a program of which tests/fault/faults.c is a part. */

/** From now on what FAULTS says goes for this program, whose text is from TEXT_BEGIN to TEXT_END. */
void faults_use(struct faults *faults, const char *text_begin, const char *text_end);

/** Counts a call of CLASS: whether it is to fail. For calls that a test stands in for. */
bool faults_strike(enum fault_class class);

/** How many blocks of memory are in use. 0 in a build with a sanitizer, where memory is not looked at and never fails. */
int64_t faults_live_blocks(void);
