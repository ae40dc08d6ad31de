/*
 * Trust domains: a cache folder holds a store and catalogs of its own for each, in `domains/NAME`, beside those of the mounts that name none. What one has is
 * never looked for in another. Names and paths only: a domain's folder is a cache folder like any other, and store and catalog know no more of it.
 */
#pragma once

#include <stdbool.h>

#define DOMAIN_NAME_MAX 64

/** True for 1 to DOMAIN_NAME_MAX letters, digits, '-', '_' and '.', the first of them no '.': so it is one name in a folder. */
bool domain_valid(const char *name);

/** The cache folder of domain NAME, which is valid, of cache folder DIR: RET is the caller's to free. -ENOMEM. */
int domain_dir(const char *dir, const char *name, char **ret);

/**
 * Calls EACH with every domain of cache folder DIR that has a folder, in the order of their names, until it returns other than 0, and returns that; 0 if there is none;
 * negative errno.
 */
int domain_each(const char *dir, int (*each)(const char *name, void *arg), void *arg);
