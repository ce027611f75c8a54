/* SPDX-License-Identifier: MIT */
#include "evecc/acl.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool allows(const struct acl *acl, const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(502)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(502)};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return acl_allows(acl, (const struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return acl_allows(acl, (const struct sockaddr *)&v6);
}

static const struct {
    const char *list, *address;
    bool allowed;
} cases[] = {
    {"",                                  "10.0.0.1",           true },
    {"",                                  "2001:db8::1",        true },
    {" , ,\t",                            "10.0.0.1",           true },
    {"10.0.0.0/8",                        "10.255.255.255",     true },
    {"10.0.0.0/8",                        "11.0.0.0",           false},
    {"10.0.0.0/8",                        "9.255.255.255",      false},
    {"10.1.2.3/8",                        "10.9.9.9",           true }, /* the host's part does not matter */
    {"192.168.1.7",                       "192.168.1.7",        true },
    {"192.168.1.7",                       "192.168.1.6",        false},
    {"192.168.1.7/32",                    "192.168.1.7",        true },
    {"192.168.1.4/31",                    "192.168.1.5",        true },
    {"192.168.1.4/31",                    "192.168.1.6",        false},
    {"172.16.0.0/12",                     "172.31.255.255",     true },
    {"172.16.0.0/12",                     "172.32.0.0",         false},
    {"128.0.0.0/1",                       "200.0.0.1",          true },
    {"128.0.0.0/1",                       "127.0.0.1",          false},
    {"0.0.0.0/0",                         "203.0.113.9",        true },
    {"0.0.0.0/0",                         "2001:db8::1",        false},
    {"0.0.0.0/0",                         "::ffff:203.0.113.9", true },
    {"::/0",                              "2001:db8::1",        true },
    {"::/0",                              "203.0.113.9",        true }, /* everyone */
    {"fd00::/8",                          "fd12:3456::1",       true },
    {"fd00::/8",                          "fe80::1",            false},
    {"2001:db8::/33",                     "2001:db8:7fff::1",   true },
    {"2001:db8::/33",                     "2001:db8:8000::1",   false},
    {"2001:db8::1",                       "2001:db8::1",        true },
    {"2001:db8::1",                       "2001:db8::2",        false},
    {"2001:db8::/128",                    "2001:db8::",         true },
 /* IPv4 in IPv6 is IPv4, in the list and in the address */
    {"10.0.0.0/8",                        "::ffff:10.1.1.1",    true },
    {"10.0.0.0/8",                        "::ffff:11.1.1.1",    false},
    {"10.0.0.0/8",                        "::10.1.1.1",         false},
    {"::ffff:10.0.0.0/104",               "10.1.1.1",           true },
    {"::ffff:10.0.0.0/104",               "11.1.1.1",           false},
 /* lists */
    {"10.0.0.0/8, fd00::/8, 192.168.1.7", "192.168.1.7",        true },
    {"10.0.0.0/8, fd00::/8, 192.168.1.7", "fd00::7",            true },
    {"10.0.0.0/8, fd00::/8, 192.168.1.7", "192.168.1.8",        false},
    {"10.0.0.0/8,fd00::/8,192.168.1.7",   "10.0.0.1",           true },
    {"10.0.0.0/8 fd00::/8\t192.168.1.7 ", "192.168.1.7",        true },
};

static void membership(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct acl acl;
        char bad[64];

        if (!acl_parse(cases[i].list, &acl, bad))
            fail_msg("\"%s\": %s", cases[i].list, bad);
        if (allows(&acl, cases[i].address) != cases[i].allowed)
            fail_msg("\"%s\" and %s", cases[i].list, cases[i].address);
    }
}

static const struct {
    const char *list, *bad;
} mistakes[] = {
    {"10.0.0.0/33",                                                 "10.0.0.0/33: prefix is not 0 to 32"        },
    {"::/129",                                                      "::/129: prefix is not 0 to 128"            },
    {"10.0.0.0/",                                                   "10.0.0.0/: prefix is not 0 to 32"          },
    {"10.0.0.0/08",                                                 "10.0.0.0/08: prefix is not 0 to 32"        },
    {"10.0.0.0/-1",                                                 "10.0.0.0/-1: prefix is not 0 to 32"        },
    {"10.0.0.0/+8",                                                 "10.0.0.0/+8: prefix is not 0 to 32"        },
    {"10.0.0.0/8x",                                                 "10.0.0.0/8x: prefix is not 0 to 32"        },
    {"10.0.0.0/8/8",                                                "10.0.0.0/8/8: prefix is not 0 to 32"       },
    {"10.0.0.0/4294967304",                                         "10.0.0.0/4294967304: prefix is not 0 to 32"},
    {"10.0.0.0/255.0.0.0",                                          "10.0.0.0/255.0.0.0: prefix is not 0 to 32" },
    {"fd00::/8, 10.0.0",                                            "10.0.0: not an address"                    },
    {"010.0.0.1",                                                   "010.0.0.1: not an address"                 },
    {"10.0.0.256",                                                  "10.0.0.256: not an address"                },
    {"10.0.0.1:502",                                                "10.0.0.1:502: not an address"              },
    {"[::1]",                                                       "[::1]: not an address"                     },
    {"fe80::1%eth0",                                                "fe80::1%eth0: not an address"              },
    {"example.org",                                                 "example.org: not an address"               },
    {"10.0.0.0 / 8",                                                "/: not an address"                         },
    {"10.0.0.1;10.0.0.2",                                           "10.0.0.1;10.0.0.2: not an address"         },
    {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc",
     "1111:2222:3333:4444:5555:6666:7777: not an address"                                                       },
    {"1111:2222:3333:4444:5555:6666:7777:8888/129",
     "1111:2222:3333:4444:5555:6666:7777: prefix is not 0 to 128"                                               },
};

static void mistakes_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct acl acl, before;
        char bad[64] = "";

        memset(&acl, 0xA5, sizeof acl);
        before = acl;
        if (acl_parse(mistakes[i].list, &acl, bad))
            fail_msg("\"%s\" was taken", mistakes[i].list);
        assert_string_equal(bad, mistakes[i].bad);
        assert_memory_equal(&acl, &before, sizeof acl);
    }
}

static void full(void **state)
{
    char text[16 * (ACL_MAX + 1)] = "", bad[64];
    struct acl acl;
    size_t n = 0;

    (void)state;
    for (unsigned i = 0; i < ACL_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "10.0.0.%u,", i);
    assert_true(acl_parse(text, &acl, bad));
    assert_int_equal(acl.count, ACL_MAX);
    assert_true(allows(&acl, "10.0.0.31"));
    assert_false(allows(&acl, "10.0.0.32"));

    strcpy(text + n, "10.0.0.32");
    assert_false(acl_parse(text, &acl, bad));
    assert_string_equal(bad, "10.0.0.32: more than 32 networks");
}

/* Every prefix length: the last bit inside decides, the first outside does not. */
static void every_prefix(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits <= 128; bits++) {
        struct sockaddr_in6 in = {.sin6_family = AF_INET6};
        char text[16], bad[64];
        struct acl acl;

        snprintf(text, sizeof text, "::/%u", bits);
        assert_true(acl_parse(text, &acl, bad));
        assert_true(acl_allows(&acl, (const struct sockaddr *)&in));
        if (bits > 0) {
            in.sin6_addr.s6_addr[(bits - 1) / 8] = (uint8_t)(0x80 >> (bits - 1) % 8);
            assert_false(acl_allows(&acl, (const struct sockaddr *)&in));
        }
        if (bits < 128) {
            memset(&in.sin6_addr, 0, sizeof in.sin6_addr);
            in.sin6_addr.s6_addr[bits / 8] = (uint8_t)(0x80 >> bits % 8);
            assert_true(acl_allows(&acl, (const struct sockaddr *)&in));
        }
    }
}

static void other_families(void **state)
{
    const struct sockaddr local = {.sa_family = AF_UNIX};
    const struct acl everyone = {.count = 0};

    (void)state;
    assert_false(acl_allows(&everyone, &local));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(membership),     cmocka_unit_test(mistakes_named),
        cmocka_unit_test(full),           cmocka_unit_test(every_prefix),
        cmocka_unit_test(other_families),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
