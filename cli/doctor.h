/*
 * What a mount on this machine, of this master, would stand on, looked at piece by piece: doctor.c has the list, and what is of this machine; doctor_master.c
 * looks at the master.
 */
#pragma once

#include <jansson.h>

#include "base/util.h"
#include "fs/options.h"
#include "sync/source.h"

enum verdict {
        VERDICT_OK = 0,
        VERDICT_WARN, /* works, but not as well as it could, or not for long */
        VERDICT_FAIL,
        VERDICTS
};

struct doctor {
        json_t *checks; /* owned: an array of name, state, text and, unless all is well, advice */
        unsigned counts[VERDICTS];
};

/** Adds a check's outcome. ADVICE: what to do; NULL if nothing is to be done. */
void doctor_say(struct doctor *doctor, enum verdict verdict, const char *name, const char *advice,
                const char *format, ...) _printf_(5, 6);

struct doctor_options {
        const char *source;          /* NULL: no master is looked at */
        struct mount_options *mount; /* borrowed, and used up */
        bool cache_named;
};

/** Looks at everything; blocks, for some seconds if a master does not answer. */
void doctor_look(struct doctor *doctor, const struct doctor_options *options);

/** Names, ports, certificates, token and spider of OPTIONS' source. */
void doctor_look_at_master(struct doctor *doctor, const struct doctor_options *options);

/** The certificate in PEM file PATH: how many days it is still valid, below 0 if it is not any more. -errno: none can be read. */
int doctor_days_of_file(const char *path, int *ret_days);

/** The certificate that whoever is connected to by FD shows for HOST, which is not verified: as doctor_days_of_file. -EPROTO: no TLS. Blocks as FD does. */
int doctor_days_of_peer(int fd, const char *host, int *ret_days);

/** The outcome as lines for people. COLOUR: verdicts in colour. */
void doctor_print(const struct doctor *doctor, FILE *out, bool colour);
