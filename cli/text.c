#include "cli/text.h"

const char *kind_name(enum entry_kind kind)
{
        return kind == ENTRY_FILE ? "file" : kind == ENTRY_DIRECTORY ? "directory" : "symlink";
}
