#include "base/failure.h"

#include <stdarg.h>
#include <string.h>

#include "base/log.h"

int failure_set(struct failure *failure, int error, const char *format, ...)
{
        va_list ap;

        if (!failure)
                return error;
        va_start(ap, format);
        vsnprintf(failure->text, sizeof(failure->text), format, ap);
        va_end(ap);
        log_make_printable(failure->text);
        return error;
}

const char *failure_text(const struct failure *failure, int error)
{
        return failure->text[0] ? failure->text : strerror(-error);
}
