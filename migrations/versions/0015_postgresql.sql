CREATE VIEW v_answers AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.final, x.state, x.leg, x.requested_model,
  x.model, x.message_id, x.stop_reason, x.stop_sequence, x.stop_details, x.text,
  x.text_repaired, x.content, x.valid, x.invalid_reason, x.input_tokens,
  x.cache_write_tokens, x.cache_write_5m_tokens, x.cache_write_1h_tokens,
  x.cache_read_tokens, x.output_tokens, x.thinking_tokens, x.web_search_requests,
  x.service_tier, x.inference_geo, x.speed, x.attempts, x.legs, x.latency_ms,
  x.first_token_ms, x.answered_at, x.cost_pico_usd, x.cost_status,
  x.provider_reported_cost, x.paid_by_attempt_uid, x.trust, x.cost_usd,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.container_id,
  CASE WHEN position('"thinking"' IN x.content) > 0 AND x.content !~ '\\u(0000|[dD][89a-fA-F])' THEN
    (SELECT string_agg(b.value ->> 'thinking', E'\n') FROM json_array_elements(CAST(x.content AS json)) b
    WHERE b.value ->> 'type' = 'thinking') END AS thinking,
  CAST(CAST(x.cost_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_low_usd,
  CAST(CAST(x.cost_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_high_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  a.run_id, a.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  a.row_number, a.custom_id, t.attempt_uid, a.request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  COALESCE(a.joined_text, a.text) AS text, a.text_repaired, COALESCE(a.joined_content, a.content) AS content, a.valid, a.invalid_reason,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.input_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.input_tokens END AS input_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_tokens END AS cache_write_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_5m_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_5m_tokens END AS cache_write_5m_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_1h_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_1h_tokens END AS cache_write_1h_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_read_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_read_tokens END AS cache_read_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.output_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.output_tokens END AS output_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.thinking_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.thinking_tokens END AS thinking_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.web_search_requests) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.web_search_requests END AS web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  TIMESTAMPTZ 'epoch' + a.answered_at * INTERVAL '1 microsecond' AS answered_at,
  CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_pico_usd,
  CASE WHEN a.legs > 1 THEN CASE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END ELSE CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS cost_status,
  a.provider_reported_cost AS provider_reported_cost, CAST(NULL AS text) AS paid_by_attempt_uid,
  CASE WHEN a.legs > 1 THEN CASE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END ELSE CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS trust, CAST(CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS numeric) / 1000000000000 AS cost_usd,
  CASE WHEN a.legs > 1 THEN (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN COALESCE(CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END, 0) ELSE (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_low_pico_usd, CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END IS NOT NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN COALESCE(o.high_amount, o.total_amount) END END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_high_pico_usd, a.container_id,
  t.workspace_id, i.key_fingerprint
FROM sources s
CROSS JOIN answers a
LEFT JOIN runs r ON r.run_id = a.run_id
LEFT JOIN invocations i ON i.invocation_id = a.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
UNION ALL
SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  h.row_number, h.custom_id, CAST(NULL AS text) AS attempt_uid,
  CAST(NULL AS bigint) AS request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  COALESCE(a.joined_text, a.text) AS text, a.text_repaired, COALESCE(a.joined_content, a.content) AS content, a.valid, a.invalid_reason,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.input_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.input_tokens END AS input_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_tokens END AS cache_write_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_5m_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_5m_tokens END AS cache_write_5m_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_1h_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_1h_tokens END AS cache_write_1h_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_read_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_read_tokens END AS cache_read_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.output_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.output_tokens END AS output_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.thinking_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.thinking_tokens END AS thinking_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.web_search_requests) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.web_search_requests END AS web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  TIMESTAMPTZ 'epoch' + a.answered_at * INTERVAL '1 microsecond' AS answered_at,
  0 AS cost_pico_usd,
  'unbilled' AS cost_status,
  CAST(NULL AS text) AS provider_reported_cost, t.attempt_uid AS paid_by_attempt_uid,
  'unbilled' AS trust, CAST(0 AS numeric) / 1000000000000 AS cost_usd,
  0 AS cost_low_pico_usd, 0 AS cost_high_pico_usd, a.container_id,
  CAST(NULL AS text) AS workspace_id, CAST(NULL AS text) AS key_fingerprint
FROM sources s
CROSS JOIN shared_answers h
CROSS JOIN answers a
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
WHERE h.source_id = s.source_id AND a.attempt_id = h.attempt_id AND s.superseded_by IS NULL
) x;

CREATE VIEW v_answers_all AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.final, x.state, x.leg, x.requested_model,
  x.model, x.message_id, x.stop_reason, x.stop_sequence, x.stop_details, x.text,
  x.text_repaired, x.content, x.valid, x.invalid_reason, x.input_tokens,
  x.cache_write_tokens, x.cache_write_5m_tokens, x.cache_write_1h_tokens,
  x.cache_read_tokens, x.output_tokens, x.thinking_tokens, x.web_search_requests,
  x.service_tier, x.inference_geo, x.speed, x.attempts, x.legs, x.latency_ms,
  x.first_token_ms, x.answered_at, x.cost_pico_usd, x.cost_status,
  x.provider_reported_cost, x.paid_by_attempt_uid, x.trust, x.cost_usd,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.container_id,
  CASE WHEN position('"thinking"' IN x.content) > 0 AND x.content !~ '\\u(0000|[dD][89a-fA-F])' THEN
    (SELECT string_agg(b.value ->> 'thinking', E'\n') FROM json_array_elements(CAST(x.content AS json)) b
    WHERE b.value ->> 'type' = 'thinking') END AS thinking,
  CAST(CAST(x.cost_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_low_usd,
  CAST(CAST(x.cost_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_high_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  a.run_id, a.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  a.row_number, a.custom_id, t.attempt_uid, a.request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  a.text AS text, a.text_repaired, a.content AS content, a.valid, a.invalid_reason,
  a.input_tokens,
  a.cache_write_tokens,
  a.cache_write_5m_tokens,
  a.cache_write_1h_tokens,
  a.cache_read_tokens,
  a.output_tokens,
  a.thinking_tokens,
  a.web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  TIMESTAMPTZ 'epoch' + a.answered_at * INTERVAL '1 microsecond' AS answered_at,
  CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_pico_usd,
  CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS cost_status,
  a.provider_reported_cost AS provider_reported_cost, CAST(NULL AS text) AS paid_by_attempt_uid,
  CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS trust, CAST(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS numeric) / 1000000000000 AS cost_usd,
  CASE WHEN more.line IS NULL THEN COALESCE(CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END, 0) ELSE (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_low_pico_usd, CASE WHEN more.line IS NULL THEN CASE WHEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END IS NOT NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN COALESCE(o.high_amount, o.total_amount) END END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_high_pico_usd, a.container_id,
  t.workspace_id, i.key_fingerprint
FROM answers a
JOIN sources s ON s.source_id = a.source_id
LEFT JOIN runs r ON r.run_id = a.run_id
LEFT JOIN invocations i ON i.invocation_id = a.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
WHERE t.state <> 'partial'
) x;

CREATE VIEW v_cost_by_model_day AS
SELECT
  x.day, x.endpoint, x.model, x.requests, x.attempts, x.input_tokens, x.cache_write_tokens,
  x.cache_write_5m_tokens, x.cache_write_1h_tokens, x.cache_read_tokens, x.output_tokens,
  x.thinking_tokens, x.web_search_requests, x.cost_pico_usd, x.in_doubt_low_pico_usd,
  x.in_doubt_high_pico_usd, x.in_doubt_unbounded, x.unpriced_requests, x.assumed_requests,
  x.assumed_low_pico_usd, x.assumed_high_pico_usd,
  CAST(CAST(x.cost_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_usd,
  CAST(CAST(x.in_doubt_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS in_doubt_low_usd,
  CAST(CAST(x.in_doubt_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS in_doubt_high_usd,
  CAST(CAST(x.assumed_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS assumed_low_usd,
  CAST(CAST(x.assumed_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS assumed_high_usd
FROM (
SELECT
  CAST((TIMESTAMPTZ 'epoch' + COALESCE(t.sent_at, t.opened_at) * INTERVAL '1 microsecond') AT TIME ZONE 'UTC' AS date) AS day, i.endpoint, COALESCE(a.model, t.requested_model) AS model,
  COUNT(CASE WHEN a.final = 1 THEN 1 END) AS requests,
  COUNT(*) AS attempts,
  CAST(SUM(a.input_tokens) AS bigint) AS input_tokens,
  CAST(SUM(a.cache_write_tokens) AS bigint) AS cache_write_tokens,
  CAST(SUM(a.cache_write_5m_tokens) AS bigint) AS cache_write_5m_tokens,
  CAST(SUM(a.cache_write_1h_tokens) AS bigint) AS cache_write_1h_tokens,
  CAST(SUM(a.cache_read_tokens) AS bigint) AS cache_read_tokens,
  CAST(SUM(a.output_tokens) AS bigint) AS output_tokens,
  CAST(SUM(a.thinking_tokens) AS bigint) AS thinking_tokens,
  CAST(SUM(a.web_search_requests) AS bigint) AS web_search_requests,
  CASE WHEN COUNT(a.attempt_id) = 0 THEN 0
    ELSE CAST(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END) AS bigint) END AS cost_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_low END), 0) AS bigint)
    AS in_doubt_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_high END), 0) AS bigint)
    AS in_doubt_high_pico_usd,
  COUNT(CASE WHEN a.attempt_id IS NULL AND t.cost_high IS NULL THEN 1 END)
    AS in_doubt_unbounded,
  COUNT(DISTINCT CASE WHEN CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END IN (1, 2, 3) THEN NULL
    ELSE a.request_id END) AS unpriced_requests,
  COUNT(DISTINCT CASE WHEN CASE WHEN more.line IS NULL THEN o.status = 'assumed' ELSE EXISTS (SELECT 1 FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END
    THEN a.request_id END) AS assumed_requests,
  CAST(COALESCE(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'assumed' THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END END ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END), 0) AS bigint)
    AS assumed_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'assumed' THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN COALESCE(o.high_amount, o.total_amount) END END ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END), 0) AS bigint)
    AS assumed_high_pico_usd
FROM attempts t
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN answers a ON a.attempt_id = t.attempt_id AND t.state <> 'partial'
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
GROUP BY 1, 2, 3
) x;

CREATE VIEW v_texts AS
SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, h.source, h.row_number, h.custom_id,
  COALESCE(a.joined_text, a.text) AS text, a.model, a.stop_reason,
  CAST(CAST(CASE WHEN h.is_shared = 1 THEN 0
    WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered')
    ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_usd
FROM (SELECT
    a.run_id, a.invocation_id, s.name AS source, a.row_number, a.custom_id, a.attempt_id,
    0 AS is_shared
  FROM sources s CROSS JOIN answers a
  WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
  UNION ALL
  SELECT
    h.run_id, h.invocation_id, s.name, h.row_number, h.custom_id, h.attempt_id, 1
  FROM sources s CROSS JOIN shared_answers h
  WHERE h.source_id = s.source_id AND s.superseded_by IS NULL) h
JOIN answers a ON a.attempt_id = h.attempt_id
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1;
