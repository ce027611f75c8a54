/* SPDX-License-Identifier: MIT
 * Any bytes as a configuration: it is taken without a word, or refused with whole
 * sentences and an empty result.  The file is a real one: iniparser reads files. */
#include "evecc/config.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/evecc-fuzz-config-XXXXXX";
static char conf[64], credential[64];

static void put(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
        abort();
    close(fd);
}

static void clean_up(void)
{
    unlink(conf);
    unlink(credential);
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (!mkdtemp(folder))
        abort();
    snprintf(conf, sizeof conf, "%s/evecc.conf", folder);
    snprintf(credential, sizeof credential, "%s/easee-password", folder);
    put(credential, "secret\n", 7);
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    return atexit(clean_up);
}

static void report(void *arg, const char *message)
{
    size_t len = strlen(message);

    if (strncmp(message, conf, strlen(conf)) != 0)
        assert(!strcmp(message, "more errors follow, not shown"));
    assert(len > 0 && !memchr(message, '\n', len));
    ++*(unsigned *)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config cfg;
    unsigned errors = 0;
    enum err err;

    put(conf, data, size);
    err = config_load(&cfg, conf, report, &errors);
    assert((err == ERR_OK) == (errors == 0));
    if (err == ERR_OK) {
        assert(cfg.listeners && cfg.circuits && *cfg.easee.password);
        for (size_t i = 0; i < cfg.circuits; i++) {
            const struct config_circuit *c = &cfg.circuit[i];

            assert(*c->name && c->unit >= 1 && c->unit <= 247 && c->min_current >= 6 &&
                   c->min_current <= c->max_current && c->max_current <= 80 &&
                   (c->phases == 1 || c->phases == 3));
        }
    } else {
        assert(!cfg.listener && !cfg.circuit && !*cfg.easee.password);
    }
    config_release(&cfg);
    return 0;
}
