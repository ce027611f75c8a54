/* SPDX-License-Identifier: MIT
 * test_reply.c - what libmodbus would send lands in our buffer, everything else on its
 * socket. */
#include "evecc/reply.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { FIRST = 7000, COUNT = 130 };

static uint16_t image[COUNT];
static modbus_mapping_t map = {.start_registers = FIRST,
                               .nb_registers = COUNT,
                               .tab_registers = image,
                               .start_input_registers = FIRST,
                               .nb_input_registers = COUNT,
                               .tab_input_registers = image};

static int setup(void **state)
{
    for (size_t i = 0; i < COUNT; i++)
        image[i] = (uint16_t)(0x0101 * i);
    return reply_new((struct reply **)state) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    reply_free(*state);
    return 0;
}

#define BYTES(...)                                    \
    (const uint8_t[]){__VA_ARGS__}, sizeof(uint8_t[]) \
    {                                                 \
        __VA_ARGS__                                   \
    }

static void assert_reply(struct reply *r, const uint8_t *adu, size_t size,
                         const uint8_t *expected, size_t expected_size)
{
    uint8_t out[MBAP_ADU_MAX];
    assert_int_equal(reply_build(r, adu, size, &map, out), expected_size);
    assert_memory_equal(out, expected, expected_size);
}

static void replies_of_every_function(void **state)
{
    struct reply *r = *state;
    /* 7000 is 1B58h */
    assert_reply(r, BYTES(0, 1, 0, 0, 0, 6, 1, 3, 0x1b, 0x59, 0, 2),
                 BYTES(0, 1, 0, 0, 0, 7, 1, 3, 4, 1, 1, 2, 2));
    assert_reply(r, BYTES(0xff, 0xff, 0, 0, 0, 6, 255, 4, 0x1b, 0x58, 0, 1),
                 BYTES(0xff, 0xff, 0, 0, 0, 5, 255, 4, 2, 0, 0));
    assert_reply(r, BYTES(0, 2, 0, 0, 0, 6, 1, 6, 0x1b, 0x59, 0xab, 0xcd),
                 BYTES(0, 2, 0, 0, 0, 6, 1, 6, 0x1b, 0x59, 0xab, 0xcd));
    assert_int_equal(image[1], 0xabcd);
    assert_reply(r, BYTES(0, 3, 0, 0, 0, 11, 1, 16, 0x1b, 0x5a, 0, 2, 4, 1, 2, 3, 4),
                 BYTES(0, 3, 0, 0, 0, 6, 1, 16, 0x1b, 0x5a, 0, 2));
    assert_int_equal(image[2], 0x0102);
    assert_int_equal(image[3], 0x0304);
    image[4] = 0x12; /* the example of APP 6.16 */
    assert_reply(r, BYTES(0, 4, 0, 0, 0, 8, 1, 22, 0x1b, 0x5c, 0, 0xf2, 0, 0x25),
                 BYTES(0, 4, 0, 0, 0, 8, 1, 22, 0x1b, 0x5c, 0, 0xf2, 0, 0x25));
    assert_int_equal(image[4], 0x17);
    assert_reply(
        r,
        BYTES(0, 5, 0, 0, 0, 13, 1, 23, 0x1b, 0x5c, 0, 2, 0x1b, 0x5d, 0, 1, 2, 0xbe,
              0xef),
        BYTES(0, 5, 0, 0, 0, 7, 1, 23, 4, 0, 0x17, 0xbe, 0xef)); /* writes first */
}

static void the_longest_reply_fits(void **state)
{
    uint8_t out[MBAP_ADU_MAX];
    size_t n =
        reply_build(*state, (const uint8_t[]){0, 1, 0, 0, 0, 6, 1, 3, 0x1b, 0x58, 0, 125},
                    12, &map, out);
    assert_int_equal(n, MBAP_HEADER + 2 + 250);
    assert_int_equal(out[n - 1], 124);
}

static void exceptions(void **state)
{
    uint8_t out[MBAP_ADU_MAX];
    for (unsigned function = 0; function < 0x80; function++) {
        const uint8_t adu[] = {7, 8, 0, 0, 0, 2, 9, (uint8_t)function};
        const uint8_t expected[] = {7,      8, 0, 0, 0, 3, 9, (uint8_t)(function | 0x80),
                                    EX_UNIT};
        assert_int_equal(reply_exception(*state, adu, EX_UNIT, out), sizeof expected);
        assert_memory_equal(out, expected, sizeof expected);
    }
}

/* Should an illegal request ever come through: libmodbus sleeps its response timeout,
 * which must not be the half second it starts with. */
static void libmodbus_does_not_sleep(void **state)
{
    struct timespec from, to;
    uint8_t out[MBAP_ADU_MAX];
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < 10; i++)
        reply_build(*state, (const uint8_t[]){0, 1, 0, 0, 0, 6, 1, 0x41, 0, 0, 0, 0}, 12,
                    &map, out);
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_in_range((to.tv_sec - from.tv_sec) * 1000 +
                        (to.tv_nsec - from.tv_nsec) / 1000000,
                    0, 1000);
}

static void other_sends_reach_their_socket(void **state)
{
    (void)state;
    int pair[2];
    char got[8] = "";
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(send(pair[0], "hello", 5, MSG_NOSIGNAL), 5);
    assert_int_equal(recv(pair[1], got, sizeof got, 0), 5);
    assert_string_equal(got, "hello");

    close(pair[1]);
    errno = 0;
    assert_int_equal(send(pair[0], "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    close(pair[0]);
    assert_int_equal(send(-1, "x", 1, 0), -1);
    assert_int_equal(errno, EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replies_of_every_function, setup, teardown),
        cmocka_unit_test_setup_teardown(the_longest_reply_fits, setup, teardown),
        cmocka_unit_test_setup_teardown(exceptions, setup, teardown),
        cmocka_unit_test_setup_teardown(libmodbus_does_not_sleep, setup, teardown),
        cmocka_unit_test(other_sends_reach_their_socket),
    };
    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
