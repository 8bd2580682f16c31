/* SPDX-License-Identifier: Apache-2.0 */
/* Where a twin goes: failure domains, processors, and all that stands in the way. */
#include "base/kvm_can.h"
#include "ha/ha_twinplace.h"
#include "tests/unit/ha/twin_sim.h"

/* n1 and n2 are in one rack. */
static const char racks_yaml[] =
    "cluster:\n  name: t\n  nodes:\n"
    "    - {name: n1, id: 1, addr: 10.0.0.1, failure_domain: rack1}\n"
    "    - {name: n2, id: 2, addr: 10.0.0.2, failure_domain: rack1}\n"
    "    - {name: n3, id: 3, addr: 10.0.0.3, failure_domain: rack2}\n"
    "  token: 1000ms\nstorage:\n  type: local-lab\n  settle: 0ms\n";
/* One of the two is not known. */
static const char one_rack_yaml[] =
    "cluster:\n  name: t\n  nodes:\n"
    "    - {name: n1, id: 1, addr: 10.0.0.1, failure_domain: rack1}\n"
    "    - {name: n2, id: 2, addr: 10.0.0.2}\n"
    "    - {name: n3, id: 3, addr: 10.0.0.3}\n"
    "  token: 1000ms\nstorage:\n  type: local-lab\n  settle: 0ms\n";
#define WEB1(ft)                                                                         \
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"           \
    "disks: [{path: /l/x.img, mirrored: true}]\nft: {" ft "}\n"

static void racks(const char *yaml)
{
    op_at(1, "cluster apply", "", yaml);
    ck_assert_msg(sim[1].result.exit_code == 0, "%s", sim[1].result.text);
}

/* By its policy. */
static uint32_t goes_to(void)
{
    pass(600 * NSEC_PER_SEC);
    return vm_at(1)->twin.to;
}

static const char *apart(void)
{
    static char text[REASON_LEN_MAX + 1];

    ha_twin_apart_text(&sim[1].agent.state, vm_at(1), text);
    return text;
}

START_TEST(in_another_rack)
{
    racks(racks_yaml);
    runs(WEB1("mode: auto, on: [n2, n3]"));
    ck_assert_uint_eq(goes_to(), 3);
    ck_assert_str_eq(apart(), "other domain: rack2");
}
END_TEST

START_TEST(in_the_same_one_if_need_be)
{
    racks(racks_yaml);
    runs(WEB1("mode: auto"));
    op_at(1, "node maintenance", "n3", "on");
    ck_assert_uint_eq(goes_to(), 2);
    ck_assert_str_eq(apart(), "same domain: rack1");
}
END_TEST

START_TEST(not_if_another_one_is_required)
{
    racks(racks_yaml);
    runs(WEB1("mode: auto, domains: require"));
    op_at(1, "node maintenance", "n3", "on");
    ck_assert_uint_eq(goes_to(), 0);
    refused("vm protect", "", "n2 is in failure domain rack1 like the VM");
    refused("vm protect", "node=n2\n", "ft.domains is require");
    op_at(1, "node maintenance", "n3", "off");
    ck_assert_uint_eq(goes_to(), 3);
}
END_TEST

START_TEST(a_node_without_a_domain)
{
    racks(one_rack_yaml);
    runs(WEB1("mode: 'off', domains: require"));
    refused("vm protect", "", "n2 has no failure_domain");
    op_at(1, "vm apply", "web1", WEB1("mode: 'off'"));
    op_at(1, "vm protect", "web1", "node=n3\n");
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    ck_assert(strstr(apart(), "perhaps the same domain") != NULL);
}
END_TEST

START_TEST(without_domains_nothing_is_said)
{
    runs(WEB1("mode: auto, on: [n2]"));
    ck_assert_uint_eq(goes_to(), 2);
    ck_assert_str_eq(apart(), "");
}
END_TEST

/* The last try came to nothing there: the other rack can wait. */
START_TEST(not_where_it_failed)
{
    racks(racks_yaml);
    runs(WEB1("mode: auto"));
    ck_assert_uint_eq(goes_to(), 3);
    twin = 3;
    third = 2;
    syncs();
    tell(twin, HA_OUTCOME_START_FAILED, 0, "no memory");
    ck_assert_uint_eq(goes_to(), 2);
}
END_TEST

static void cpu(uint32_t node, const char *text)
{
    struct cpu_model model;
    struct cpu_model_error error;

    ck_assert(cpu_model_parse(text, &model, &error));
    for (uint32_t i = 1; i <= NODES; i++) {
        ha_cpus_put(&sim[i].agent.cpus, node, &model);
    }
}

#define HOST "vendor=AuthenticAMD phys=40 linear=48 features="

START_TEST(the_processor_that_the_guest_sees)
{
    runs(WEB1("mode: 'off'"));
    cpu(1, HOST "fpu,avx2,bmi2,tsc,rdrand");
    cpu(2, HOST "fpu,avx2");
    cpu(3, HOST "fpu,avx2,bmi2"); /* what it lacks no lockstep guest sees */
    refused("vm protect", "node=n2\n",
            "n2 has not the processor that the guest sees, lacks bmi2");
    cpu(3, "vendor=GenuineIntel phys=40 linear=48 features=fpu,avx2,bmi2");
    refused("vm protect", "",
            "n3 has not the processor that the guest sees, lacks vendor");
    cpu(3, HOST "fpu,avx2,bmi2");
    op_at(third, "vm protect", "web1", "node=n3\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
}
END_TEST

START_TEST(what_its_kvm_can)
{
    runs(WEB1("mode: 'off'"));
    for (uint32_t i = 1; i <= NODES; i++) {
        ha_cpus_put_kvm(&sim[i].agent.cpus, 2,
                        kvm_can_needs(false) & ~(1u << KVM_CAN_MSR_FILTER));
        ha_cpus_put_kvm(&sim[i].agent.cpus, 3, kvm_can_needs(false)); /* no irqchip */
    }
    refused("vm protect", "node=n2\n", "n2 has a KVM that lacks msr-filter");
    op_at(third, "vm protect", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_uint_eq(vm_at(1)->twin.to, 3);
}
END_TEST

/* Each says it to all, with its summary. */
START_TEST(told_to_all)
{
    uint32_t can;

    sim[2].agent.self.kvm_known = true;
    sim[2].agent.self.kvm_can = 1u << KVM_CAN_IRQFD;
    ck_assert(!ha_cpus_kvm(&sim[1].agent.cpus, 2, &can));
    form(9, 3, all);
    settle();
    ck_assert(ha_cpus_kvm(&sim[1].agent.cpus, 2, &can));
    ck_assert_uint_eq(can, 1u << KVM_CAN_IRQFD);
    ck_assert(!ha_cpus_kvm(&sim[2].agent.cpus, 1, &can));
    ck_assert(!ha_cpus_lacks_sse(&sim[1].agent.cpus, 1)); /* it has said nothing */
    ck_assert(!ha_cpus_lacks_sse(&sim[1].agent.cpus, 2)); /* an earlier version */
    sim[2].agent.self.kvm_can |= 1u << KVM_CAN_NOT_SSE;
    form(10, 3, all);
    settle();
    ck_assert(ha_cpus_lacks_sse(&sim[1].agent.cpus, 2));
}
END_TEST

/* Not one after the other, each time it is tried again. */
START_TEST(all_reasons_at_once)
{
    racks(racks_yaml);
    runs(WEB1("mode: 'off', domains: require"));
    cpu(1, HOST "fpu,avx2");
    cpu(2, HOST "fpu");
    for (uint32_t i = 1; i <= NODES; i++) {
        ((struct ha_node *)ha_state_node(&sim[i].agent.state, 2))->memory_bytes = 1 << 20;
    }
    op_at(1, "node maintenance", "n2", "on");
    op_at(third, "vm protect", "web1", "node=n2\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert_str_eq(sim[third].result.text,
                     "n2 is in maintenance, has 1 MiB free, and it needs 32 MiB, has not "
                     "the processor that the guest sees, lacks avx2, is in failure "
                     "domain rack1 like the VM (ft.domains is require)");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_twinplace");
    TCase *tc = tcase_create("ha_twinplace");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, in_another_rack);
    tcase_add_test(tc, in_the_same_one_if_need_be);
    tcase_add_test(tc, not_if_another_one_is_required);
    tcase_add_test(tc, a_node_without_a_domain);
    tcase_add_test(tc, without_domains_nothing_is_said);
    tcase_add_test(tc, not_where_it_failed);
    tcase_add_test(tc, the_processor_that_the_guest_sees);
    tcase_add_test(tc, what_its_kvm_can);
    tcase_add_test(tc, told_to_all);
    tcase_add_test(tc, all_reasons_at_once);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
