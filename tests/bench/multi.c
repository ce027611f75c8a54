/* SPDX-License-Identifier: MIT
 * multi - the least that sends an HTTPS request when another thread asks for it: a
 * libcurl multi loop that an eventfd wakes, on one kept connection.
 *
 *   multi EVENTFD URL CA_FILE */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BODY "{\"dynamicCircuitCurrentP1\":10,\"dynamicCircuitCurrentP2\":10,"

static size_t ignore(char *data, size_t size, size_t count, void *arg)
{
    (void)data;
    (void)arg;
    return size * count;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct curl_waitfd trigger = {.fd = (int)strtol(argv[1], NULL, 10),
                                  .events = CURL_WAIT_POLLIN};
    struct curl_slist *headers =
        curl_slist_append(NULL, "Content-Type: application/json");
    CURL *post = curl_easy_init();
    CURLM *multi = curl_multi_init();
    int running = 0;

    curl_easy_setopt(post, CURLOPT_URL, argv[2]);
    curl_easy_setopt(post, CURLOPT_CAINFO, argv[3]);
    curl_easy_setopt(post, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(post, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(post, CURLOPT_POSTFIELDS, BODY "\"dynamicCircuitCurrentP3\":10}");
    curl_easy_setopt(post, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(post, CURLOPT_WRITEFUNCTION, ignore);
    for (;;) {
        eventfd_t value;
        int left;

        curl_multi_poll(multi, &trigger, 1, 60000, NULL);
        if (trigger.revents && eventfd_read(trigger.fd, &value) == 0)
            curl_multi_add_handle(multi, post);
        curl_multi_perform(multi, &running);
        for (CURLMsg *m; (m = curl_multi_info_read(multi, &left));) {
            if (m->data.result != CURLE_OK)
                fprintf(stderr, "multi: %s\n", curl_easy_strerror(m->data.result));
            curl_multi_remove_handle(multi, post);
        }
    }
}
