#include "base/terminal_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS 80

int terminal_line_room(void)
{
        struct winsize size;

        return (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS) - 1;
}

void terminal_line_show(const char *format, ...)
{
        char line[1024];
        va_list args;
        size_t len;

        va_start(args, format);
        vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        len = MIN(strlen(line), (size_t)terminal_line_room());
        while (len > 0 && (line[len] & 0xc0) == 0x80) /* not within a character */
                len--;
        fprintf(stderr, "\r%.*s\033[K", (int)len, line);
}

void terminal_line_clear(void)
{
        fputs("\r\033[K", stderr);
}
