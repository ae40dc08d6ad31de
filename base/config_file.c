#include "base/config_file.h"

#include <fcntl.h>
#include <ini.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"

#define SECTION_BYTES_MAX 48 /* one byte more may have been cut by libinih */

/* Between libinih, which asks for lines and hands out pairs, and the file that they become. */
struct reading {
        const char *text; /* what is left of it */
        size_t left;
        unsigned number; /* of the line handed out last */
        struct config_file *file;
        size_t capacity;
        struct failure *failure;
        int error;
};

static int fault(struct reading *reading, const char *what)
{
        if (reading->error == 0)
                reading->error = failure_set(reading->failure, -EINVAL, "%s:%u: %s", reading->file->path,
                                             reading->number, what);
        return reading->error;
}

/* As fgets(3), for libinih. Blanks before the first word are left out: it would take the line for one more value of the key above. */
static char *next_line(char *line, int size, void *arg)
{
        struct reading *reading = arg;
        const char *end = memchr(reading->text, '\n', reading->left);
        size_t len = end ? (size_t)(end - reading->text) : reading->left;
        const char *start = reading->text;

        if (reading->left == 0 || reading->error < 0)
                return NULL;
        reading->number++;
        reading->text += MIN(len + 1, reading->left);
        reading->left -= MIN(len + 1, reading->left);
        for (; len > 0 && (*start == ' ' || *start == '\t'); len--)
                start++;
        if (len > 0 && start[len - 1] == '\r')
                len--;
        for (size_t i = 0; i < len; i++)
                if (((unsigned char)start[i] < ' ' && start[i] != '\t') || start[i] == '\177') {
                        fault(reading, "a control character: this is no configuration file");
                        return NULL;
                }
        if (len + 3 > (size_t)size) {
                fault(reading, "the line is too long");
                return NULL;
        }
        memcpy(line, start, len);
        line[len] = '\n';
        line[len + 1] = '\0';
        return line;
}

static int reserve(struct reading *reading)
{
        size_t capacity = reading->capacity ? 2 * reading->capacity : 16;
        struct config_line *lines;

        if (reading->file->n < reading->capacity)
                return 0;
        lines = reallocarray(reading->file->lines, capacity, sizeof(*lines));
        if (!lines)
                return -ENOMEM;
        reading->file->lines = lines;
        reading->capacity = capacity;
        return 0;
}

static int add(struct reading *reading, const char *section, const char *key, const char *value)
{
        struct config_line *line;

        if (reserve(reading) < 0)
                return -ENOMEM;
        line = &reading->file->lines[reading->file->n++];
        *line = (struct config_line){
                .number = reading->number,
                .section = strdup(section),
                .key = strdup(key),
                .value = strdup(value),
        };
        return line->section && line->key && line->value ? 0 : -ENOMEM;
}

/* libinih's handler: 0 is an error to it. */
static int take_pair(void *arg, const char *section, const char *key, const char *value)
{
        struct reading *reading = arg;

        if (reading->error < 0)
                return 0;
        if (strlen(section) > SECTION_BYTES_MAX)
                fault(reading, "the section's name is too long: 48 bytes are the most");
        else if (!key[0])
                fault(reading, "there is no key before '='");
        else if (add(reading, section, key, value) < 0)
                reading->error = -ENOMEM;
        return reading->error == 0;
}

int config_file_parse(const char *path, const char *text, size_t len, struct config_file *ret,
                      struct failure *failure)
{
        struct config_file file = { .path = strdup(path) };
        struct reading reading = { .text = text, .left = len, .file = &file, .failure = failure };
        int line;

        if (!file.path)
                return -ENOMEM;
        line = ini_parse_stream(next_line, &reading, take_pair, &reading);
        if (line > 0 && reading.error == 0) {
                reading.number = (unsigned)line;
                fault(&reading, "expected KEY = VALUE, [SECTION] or # COMMENT");
        }
        if (reading.error < 0) {
                config_file_release(&file);
                return reading.error;
        }
        *ret = file;
        return 0;
}

/* Nobody is to wait for a pipe, or to have read from a device what is never given back. */
static int open_plain(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        int r = 0;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                r = -errno;
        else if (S_ISDIR(st.st_mode))
                r = -EISDIR;
        else if (!S_ISREG(st.st_mode) && strcmp(path, "/dev/null") != 0)
                r = -ENODEV;
        if (r == 0)
                return fd;
        close(fd);
        return r;
}

static const char *explain(int error)
{
        switch (error) {
        case -EFBIG:
                return "it is larger than 256 KiB: is this a configuration file?";
        case -EISDIR:
                return "it is a folder: name the file";
        case -ENODEV:
                return "it is not a regular file";
        default:
                return strerror(-error);
        }
}

int config_file_read(const char *path, struct config_file *ret, struct failure *failure)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        _cleanup_close_ int fd = open_plain(path);
        int r = fd < 0 ? fd : io_read_to_end(fd, CONFIG_FILE_BYTES_MAX, &text);

        if (r < 0)
                return failure_set(failure, r, "cannot read the configuration '%s': %s", path, explain(r));
        return config_file_parse(path, text.data ? text.data : "", text.len, ret, failure);
}

void config_file_release(struct config_file *file)
{
        for (size_t i = 0; i < file->n; i++) {
                free(file->lines[i].section);
                free(file->lines[i].key);
                free(file->lines[i].value);
        }
        free(file->lines);
        free(file->path);
        *file = (struct config_file){ 0 };
}
