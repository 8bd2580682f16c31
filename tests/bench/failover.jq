# SPDX-License-Identifier: Apache-2.0
# Runs (one object each) -> one object per case and metric: medians, extremes, and ours / peer.
def round2: . * 100 | round / 100;
def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def figures($metric): map(.[$metric] | select(. != null)) | select(length > 0)
    | {value: (median | round2), min: (min | round2), max: (max | round2), n: length};
def names: {power: "power-loss", freeze: "frozen-node"};

. as $all
| ["suspect_ms", "detect_ms", "fence_ms", "claim_ms", "start_ms", "answer_ms", "ring_ms", "outage_ms", "after_ring_ms"] as $metrics
| (map(select(.disturbed | not)) | group_by([.profile, .case]))[]
| . as $runs
| "\(names[.[0].case])/\(.[0].profile)" as $case
| ($runs | map(select(.side == "gemel"))) as $ours
| ($runs | map(select(.side == "pacemaker"))) as $theirs
| (
    ($metrics[] as $metric
    | ([$ours | figures($metric)][0]) as $a
    | ([$theirs | figures($metric)][0]) as $b
    | select($a != null or $b != null)
    | {bench: "failover", case: $case, metric: $metric, unit: "ms"}
      + if $a == null then {} else {value: $a.value, min: $a.min, max: $a.max, n: $a.n} end
      + if $b == null then {} else
            {peer: $peer, peer_value: $b.value, peer_min: $b.min, peer_max: $b.max, peer_n: $b.n}
            + if $a == null or $b.value <= 0 then {} else {ratio: ($a.value / $b.value | round2)} end
        end),
    (select(any($ours[]; .watched_ms))
     | {bench: "failover", case: $case, metric: "false_suspicions", unit: "1/h", n: ($ours | length),
        value: (($ours | map(.false_suspicions) | add) / ($ours | map(.watched_ms) | add) * 3600000 | round),
        watched_s: ($ours | map(.watched_ms) | add / 1000 | round)}),
    {bench: "failover", case: $case, metric: "load", unit: "processes", value: ($runs | map(.load) | median),
     min: ($runs | map(.load) | min), max: ($runs | map(.load) | max), n: ($runs | length)},
    ($all | map(select(.disturbed and "\(names[.case])/\(.profile)" == $case)) | length
     | {bench: "failover", case: $case, metric: "runs_disturbed", unit: "count", value: ., n: (($runs | length) + .)})
  )
