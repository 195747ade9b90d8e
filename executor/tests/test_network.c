/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "executor/network/cni.h"
#include "executor/network/network_files.h"
#include "executor/network/network_ports.h"
#include "executor/network/network_range.h"
#include "libcommon/cleanup.h"

static void a_name_fits_an_interface_and_is_the_same_each_time(void **state)
{
    (void)state;
    char one[WFE_NETWORK_NAME_MAX], again[WFE_NETWORK_NAME_MAX], other[WFE_NETWORK_NAME_MAX];
    wfe_network_name("default/build", one);
    wfe_network_name("default/build", again);
    wfe_network_name("default/test", other);
    assert_int_equal(strlen(one), 15);
    assert_memory_equal(one, "wfe-", 4);
    assert_string_equal(one, again);
    assert_string_not_equal(one, other);
}

static void the_pool_is_cut_into_ranges(void **state)
{
    (void)state;
    char subnet[WFE_NETWORK_SUBNET_MAX];
    assert_string_equal(wfe_network_subnet(0, subnet), "10.213.0.0/26");
    assert_string_equal(wfe_network_subnet(5, subnet), "10.213.1.64/26");
    assert_string_equal(wfe_network_subnet(WFE_NETWORK_RANGES - 1, subnet), "10.213.255.192/26");
}

static void routes_into_the_pool_take_their_ranges(void **state)
{
    (void)state;
    static const char routes[] =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" /* default */
        "tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n" /* 10.0.0.0/8 */
        "br0\t4001D50A\t00000000\t0001\t0\t0\t0\tC0FFFFFF\t0\t0\t0\n"  /* 10.213.1.64/26 */
        "br1\t0002D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"  /* 10.213.2.0/24 */
        "br2\t0103D50A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"; /* 10.213.3.1 */
    bool taken[WFE_NETWORK_RANGES] = {false};
    wfe_network_taken_by_routes(routes, taken);
    for (int i = 0; i < WFE_NETWORK_RANGES; i++)
        assert_int_equal(taken[i], i == 5 || (i >= 8 && i < 12) || i == 12);
}

static void a_route_to_the_whole_pool_takes_all_of_it(void **state)
{
    (void)state;
    bool taken[WFE_NETWORK_RANGES] = {false};
    wfe_network_taken_by_routes("x\t0000D50A\t0\t1\t0\t0\t0\t0000FFFF\t0\t0\t0\n", taken);
    assert_true(taken[0] && taken[WFE_NETWORK_RANGES - 1]);
    assert_int_equal(wfe_network_choose_range("a", taken), -ENOSPC);
}

static void a_range_is_free_and_the_same_when_it_can_be(void **state)
{
    (void)state;
    bool taken[WFE_NETWORK_RANGES] = {false};
    int range = wfe_network_choose_range("wfe-0123", taken);
    assert_in_range(range, 0, WFE_NETWORK_RANGES - 1);
    assert_int_equal(wfe_network_choose_range("wfe-0123", taken), range);
    taken[range] = true;
    int other = wfe_network_choose_range("wfe-0123", taken);
    assert_int_not_equal(other, range);
    for (int i = 0; i < WFE_NETWORK_RANGES; i++)
        taken[i] = i != 77;
    assert_int_equal(wfe_network_choose_range("wfe-0123", taken), 77);
}

static void the_built_in_list_is_one(void **state)
{
    (void)state;
    WFE_JSON cJSON *list = wfe_network_list("wfe-0123", 5, true);
    WFE_FREE char *text = cJSON_PrintUnformatted(list);
    WFE_JSON cJSON *parsed = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_cni_list_parse("built-in", text, &parsed, &err), 0);
    assert_non_null(strstr(text, "\"bridge\":\"wfe-0123\""));
    assert_non_null(strstr(text, "\"subnet\":\"10.213.1.64/26\""));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(list, "plugins")), 3);
    WFE_JSON cJSON *without = wfe_network_list("wfe-0123", 5, false);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(without, "plugins")), 2);
}

static void assert_resolv_conf(
    const char *host, const char *dns_text, bool has_ipv6, const char *expected, size_t servers)
{
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    WFE_JSON cJSON *dns = dns_text ? cJSON_Parse(dns_text) : NULL;
    size_t found = 99;
    assert_int_equal(wfe_network_resolv_conf(host, dns, has_ipv6, &text, &found), 0);
    assert_string_equal(text.data ? text.data : "", expected);
    assert_int_equal(found, servers);
}

static void name_servers_that_are_out_of_reach_are_left_out(void **state)
{
    (void)state;
    static const char host[] = "# made by hand\n"
                               "nameserver 127.0.0.53\n"
                               "nameserver\t10.0.0.2 # mine\n"
                               "nameserver ::1\n"
                               "nameserver fd00::53\n"
                               "nameserver fe80::1%eth0\n"
                               "nameservers 1.1.1.1\n"
                               "search example.org\n"
                               "options ndots:2";
    assert_resolv_conf(host, NULL, false,
        "# made by hand\nnameserver\t10.0.0.2 # mine\nnameservers 1.1.1.1\nsearch example.org\n"
        "options ndots:2\n",
        1);
    assert_resolv_conf(
        "nameserver fd00::53\nnameserver ::1\n", NULL, true, "nameserver fd00::53\n", 1);
    assert_resolv_conf("nameserver 127.0.0.53\nsearch x\n", NULL, false, "search x\n", 0);
    assert_resolv_conf("nameserver 0.0.0.0\nnameserver\nnameserver \n", NULL, true, "", 0);
    assert_resolv_conf("", NULL, false, "", 0);
}

static void name_servers_of_the_network_itself_win(void **state)
{
    (void)state;
    assert_resolv_conf("nameserver 10.0.0.2\n",
        "{\"nameservers\":[\"10.1.0.1\",\"evil\\nx\"],\"search\":[\"a.b\",\"c\"],"
        "\"options\":[\"ndots:1\"]}",
        false, "nameserver 10.1.0.1\nsearch a.b c\noptions ndots:1\n", 1);
    assert_resolv_conf(
        "nameserver 10.0.0.2\n", "{\"search\":[\"a\"]}", false, "nameserver 10.0.0.2\n", 1);
}

static void a_container_knows_its_own_name(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    WFE_JSON cJSON *result =
        cJSON_Parse("{\"ips\":[{\"address\":\"fd00::2/64\"},{\"address\":\"10.213.0.2/26\"},"
                    "{\"address\":\"10.0.0.1 evil\"}]}");
    struct wfe_network_addresses addresses;
    wfe_network_addresses_read(result, &addresses);
    assert_string_equal(wfe_network_addresses_main(&addresses), "10.213.0.2");
    assert_int_equal(wfe_network_hosts(&text), 0);
    assert_int_equal(wfe_network_hosts_add(&addresses, "wfe-1", &text), 0);
    assert_non_null(strstr(text.data, "127.0.0.1\tlocalhost\n"));
    assert_non_null(strstr(text.data, "\nfd00::2\twfe-1\n10.213.0.2\twfe-1\n"));
}

static void ports_are_told_to_the_plugin(void **state)
{
    (void)state;
    struct wfe_step_port ports[2];
    assert_int_equal(wfe_port_parse("8080:80", &ports[0]), 0);
    assert_int_equal(wfe_port_parse("127.0.0.1:53:5353/udp", &ports[1]), 0);
    WFE_JSON cJSON *capability = wfe_network_ports_capability(ports, 2);
    WFE_JSON cJSON *expected =
        cJSON_Parse("{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"protocol\":"
                    "\"tcp\"},{\"hostPort\":53,\"containerPort\":5353,\"protocol\":\"udp\","
                    "\"hostIP\":\"127.0.0.1\"}]}");
    assert_true(cJSON_Compare(capability, expected, true));
}

static void ports_of_others_are_found(void **state)
{
    (void)state;
    struct wfe_step_port port;
    WFE_JSON cJSON *capability = cJSON_Parse(
        "{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\"},"
        "{\"hostPort\":53,\"containerPort\":53,\"protocol\":\"udp\",\"hostIP\":"
        "\"127.0.0.1\"}]}");
    static const char *const taken[] = {"8080:1", "127.0.0.1:8080:1", "53/udp"};
    static const char *const untaken[] = {"80", "8080/udp", "127.0.0.2:53:53/udp"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        assert_int_equal(wfe_port_parse(taken[i], &port), 0);
        assert_ptr_equal(wfe_network_ports_find(&port, 1, capability), &port);
    }
    for (size_t i = 0; i < sizeof untaken / sizeof *untaken; i++) {
        assert_int_equal(wfe_port_parse(untaken[i], &port), 0);
        assert_null(wfe_network_ports_find(&port, 1, capability));
    }
    assert_null(wfe_network_ports_find(&port, 1, NULL));
}

static void a_port_that_is_in_use_is_told(void **state)
{
    (void)state;
    WFE_CLOSE int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(other, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(other, (struct sockaddr *)&address, &length), 0);
    struct wfe_step_port port = {
        .host_address = address.sin_addr, .host_port = ntohs(address.sin_port)};
    struct wfe_error err = WFE_ERROR_INIT;
    WFE_CLOSE int fd = -1;
    assert_int_equal(wfe_network_ports_take(&port, 1, &fd, &err), -EADDRINUSE);
    char words[64];
    snprintf(words, sizeof words, "port %u/tcp", port.host_port);
    assert_non_null(strstr(err.message, words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_fits_an_interface_and_is_the_same_each_time),
        cmocka_unit_test(the_pool_is_cut_into_ranges),
        cmocka_unit_test(routes_into_the_pool_take_their_ranges),
        cmocka_unit_test(a_route_to_the_whole_pool_takes_all_of_it),
        cmocka_unit_test(a_range_is_free_and_the_same_when_it_can_be),
        cmocka_unit_test(the_built_in_list_is_one),
        cmocka_unit_test(name_servers_that_are_out_of_reach_are_left_out),
        cmocka_unit_test(name_servers_of_the_network_itself_win),
        cmocka_unit_test(a_container_knows_its_own_name),
        cmocka_unit_test(ports_are_told_to_the_plugin),
        cmocka_unit_test(ports_of_others_are_found),
        cmocka_unit_test(a_port_that_is_in_use_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
