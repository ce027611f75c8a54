/* SPDX-License-Identifier: MIT
 * Any bytes as a file of the state directory: as they are, as what a killed write left,
 * and as what became of a good file.  What is read is what was written, or nothing. */
#include "evecc/store.h"

#include "folder.h"

#include <string.h>

#define NAME "state"
enum { VERSION = 3 };

static struct store *store;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char why[256];
    (void)argc;
    (void)argv;
    make_folder(NAME);
    CHECK(store_open(&store, folder, true, why, sizeof why) == ERR_OK);
    return 0;
}

/* Whatever is there, the verdict stands, and the next version is written and read. */
static void check_end(enum err first, size_t size)
{
    char *text;
    size_t len;
    bool old;

    enum err again = store_read(store, NAME, VERSION, &text, &len, &old);
    CHECK(first != ERR_OK || again == ERR_OK);
    if (again == ERR_OK) {
        CHECK(len <= size && text[len] == '\0');
        free(text);
    }
    CHECK(store_write(store, NAME, VERSION, "next", 4) == ERR_OK);
    CHECK(store_read(store, NAME, VERSION, &text, &len, &old) == ERR_OK);
    CHECK(!old && len == 4 && strcmp(text, "next") == 0);
    free(text);
}

static void read_any(const char *file, const uint8_t *data, size_t size)
{
    char *text;
    size_t len;
    bool old;

    put_file(file, data, size);
    enum err err = store_read(store, NAME, VERSION, &text, &len, &old);
    if (err == ERR_OK) {
        CHECK(!old && len <= size && memcmp(text, data + size - len, len) == 0);
        free(text);
    }
    check_end(err, size);
}

/* The last byte is xored over one of the file that holds the others. */
static void read_damaged(const uint8_t *data, size_t size)
{
    uint8_t file[8192], change = data[size - 1];
    char path[80], *text;
    size_t len, content = size - 1;
    bool old;

    path_of(NAME, path);
    CHECK(store_write(store, NAME, VERSION, "before", 6) == ERR_OK);
    CHECK(store_write(store, NAME, VERSION, data, content) == ERR_OK);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, file, sizeof file);
    close(fd);
    CHECK(n > 0);
    file[(content * 31 + data[0]) % (size_t)n] ^= change;
    put_file(NAME, file, (size_t)n);
    CHECK(store_read(store, NAME, VERSION, &text, &len, &old) == ERR_OK);
    CHECK(old == (change != 0));
    CHECK(change != 0 ? strcmp(text, "before") == 0
                      : len == content && memcmp(text, data, len) == 0);
    free(text);
    check_end(ERR_OK, size + sizeof "before");
}

/* The first byte says which. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > 4096)
        return 0;
    remove_files();
    switch (data[0] % 3) {
    case 0:
        read_any(NAME, data + 1, size - 1);
        break;
    case 1:
        read_any(NAME ".new", data + 1, size - 1);
        break;
    default:
        read_damaged(data + 1, size - 1);
    }
    return 0;
}
