#include "cli/text.h"

#include <string.h>

#include "base/path.h"

const char *kind_name(enum entry_kind kind)
{
        return kind == ENTRY_FILE ? "file" : kind == ENTRY_DIRECTORY ? "directory" : "symlink";
}

json_t *json_name(const char *name)
{
        _cleanup_free_ char *copy = strdup(name);

        if (copy && !path_is_utf8(copy, strlen(copy)))
                for (char *p = copy; *p; p++)
                        if (*p & 0x80)
                                *p = '?';
        return copy ? json_string(copy) : NULL;
}
