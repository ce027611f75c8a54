/* SPDX-License-Identifier: MIT
 * A folder of its own for a fuzzer whose target reads files, in memory where there is
 * such a place: they are synced millions of times. */
#ifndef EVECC_FUZZ_FOLDER_H
#define EVECC_FUZZ_FOLDER_H

#include "check.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static char folder[64], file_name[16];

static void path_of(const char *name, char ret[static 80])
{
    snprintf(ret, 80, "%s/%s", folder, name);
}

static void remove_files(void)
{
    static const char *const endings[] = {"", ".new", ".old", ".bad", ".newer", ".tmp"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        char name[24], path[80];
        snprintf(name, sizeof name, "%s%s", file_name, endings[i]);
        path_of(name, path);
        unlink(path);
    }
}

static void remove_folder(void)
{
    remove_files();
    char pid[80];
    path_of("pid", pid);
    unlink(pid);
    rmdir(folder);
}

/* For files called NAME; removed in the end. */
static void make_folder(const char *name)
{
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/evecc-fuzz-XXXXXX", parent);
    snprintf(file_name, sizeof file_name, "%s", name);
    CHECK(mkdtemp(folder));
    atexit(remove_folder);
}

static void put_file(const char *name, const void *data, size_t size)
{
    char path[80];
    path_of(name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

#endif
