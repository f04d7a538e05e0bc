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
  CASE WHEN instr(x.content, '"thinking"') > 0 AND json_valid(x.content)
      AND x.content NOT GLOB '*\u[dD][89a-fA-F]*' AND instr(x.content, '\u0000') = 0 THEN
    (SELECT group_concat(json_extract(b.value, '$.thinking'), char(10)) FROM json_each(x.content) b
    WHERE json_extract(b.value, '$.type') = 'thinking') END AS thinking,
  x.cost_low_pico_usd / 1e12 AS cost_low_usd,
  x.cost_high_pico_usd / 1e12 AS cost_high_usd
FROM (
SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, h.source,
  h.row_number, h.custom_id, CASE WHEN h.is_shared = 0 THEN t.attempt_uid END AS attempt_uid,
  CASE WHEN h.is_shared = 0 THEN a.request_id END AS request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  COALESCE(a.joined_text, a.text) AS text, a.text_repaired,
  COALESCE(a.joined_content, a.content) AS content, a.valid, a.invalid_reason,
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
  strftime('%Y-%m-%dT%H:%M:%S', a.answered_at / 1000000, 'unixepoch') || printf('.%06dZ', a.answered_at % 1000000) AS answered_at,
  CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_pico_usd,
  CASE WHEN h.is_shared = 1 THEN 'unbilled' ELSE CASE CASE WHEN a.legs > 1 THEN (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS cost_status,
  CASE WHEN h.is_shared = 0 THEN a.provider_reported_cost END AS provider_reported_cost,
  CASE WHEN h.is_shared = 1 THEN t.attempt_uid END AS paid_by_attempt_uid,
  CASE WHEN h.is_shared = 1 THEN 'unbilled' ELSE CASE CASE WHEN a.legs > 1 THEN (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS trust, CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END / 1e12 AS cost_usd,
  CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_low_pico_usd, CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_high_pico_usd, a.container_id
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
CROSS JOIN answers a ON a.attempt_id = h.attempt_id
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
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
  CASE WHEN instr(x.content, '"thinking"') > 0 AND json_valid(x.content)
      AND x.content NOT GLOB '*\u[dD][89a-fA-F]*' AND instr(x.content, '\u0000') = 0 THEN
    (SELECT group_concat(json_extract(b.value, '$.thinking'), char(10)) FROM json_each(x.content) b
    WHERE json_extract(b.value, '$.type') = 'thinking') END AS thinking,
  x.cost_low_pico_usd / 1e12 AS cost_low_usd,
  x.cost_high_pico_usd / 1e12 AS cost_high_usd
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
  strftime('%Y-%m-%dT%H:%M:%S', a.answered_at / 1000000, 'unixepoch') || printf('.%06dZ', a.answered_at % 1000000) AS answered_at,
  (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) AS cost_pico_usd,
  CASE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS cost_status,
  a.provider_reported_cost AS provider_reported_cost, CAST(NULL AS text) AS paid_by_attempt_uid,
  CASE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS trust, (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) / 1e12 AS cost_usd,
  (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) AS cost_low_pico_usd, (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) AS cost_high_pico_usd, a.container_id
FROM answers a
JOIN sources s ON s.source_id = a.source_id
LEFT JOIN runs r ON r.run_id = a.run_id
LEFT JOIN invocations i ON i.invocation_id = a.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
WHERE t.state <> 'partial'
) x;

CREATE VIEW v_attempts AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.attempt, x.leg, x.purpose, x.state,
  x.requested_model, x.opened_at, x.sent_at, x.settled_at, x.http_status, x.error_type,
  x.error_code, x.error_message, x.provider_request_id, x.workspace_id,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.cost_low_pico_usd / 1e12 AS cost_low_usd,
  x.cost_high_pico_usd / 1e12 AS cost_high_usd
FROM (
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, t.number AS attempt, t.leg, t.purpose, t.state,
  t.requested_model, strftime('%Y-%m-%dT%H:%M:%S', t.opened_at / 1000000, 'unixepoch') || printf('.%06dZ', t.opened_at % 1000000) AS opened_at, strftime('%Y-%m-%dT%H:%M:%S', t.sent_at / 1000000, 'unixepoch') || printf('.%06dZ', t.sent_at % 1000000) AS sent_at,
  strftime('%Y-%m-%dT%H:%M:%S', t.settled_at / 1000000, 'unixepoch') || printf('.%06dZ', t.settled_at % 1000000) AS settled_at, t.http_status, t.error_type, t.error_code, t.error_message,
  t.provider_request_id, t.workspace_id,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_low END AS cost_low_pico_usd,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_high END AS cost_high_pico_usd
FROM attempts t
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
) x;

CREATE VIEW v_charges AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.line, x.model, x.meter, x.quantity, x.rate,
  x.amount, x.currency, x.amount_pico_usd, x.status, x.reason, x.price_book, x.rating,
  x.amount_pico_usd / 1e12 AS amount_usd
FROM (
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'input' AS meter, c.input_quantity AS quantity, x.input_rate AS rate, c.input_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.input_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.input_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_write_5m' AS meter, c.cache_write_5m_quantity AS quantity, x.cache_write_5m_rate AS rate, c.cache_write_5m_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_write_5m_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_write_5m_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_write_1h' AS meter, c.cache_write_1h_quantity AS quantity, x.cache_write_1h_rate AS rate, c.cache_write_1h_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_write_1h_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_write_1h_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_read' AS meter, c.cache_read_quantity AS quantity, x.cache_read_rate AS rate, c.cache_read_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_read_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_read_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'output' AS meter, c.output_quantity AS quantity, x.output_rate AS rate, c.output_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.output_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.output_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'web_search' AS meter, c.web_search_quantity AS quantity, x.web_search_rate AS rate, c.web_search_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.web_search_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.web_search_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'unknown' AS meter, NULL AS quantity, NULL AS rate, NULL AS amount,
  c.currency, NULL AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.status IN ('unpriced', 'assumed') AND COALESCE(c.input_quantity, 0) = 0 AND COALESCE(c.cache_write_5m_quantity, 0) = 0 AND COALESCE(c.cache_write_1h_quantity, 0) = 0 AND COALESCE(c.cache_read_quantity, 0) = 0 AND COALESCE(c.output_quantity, 0) = 0 AND COALESCE(c.web_search_quantity, 0) = 0
) x;

CREATE VIEW v_cost_by_model_day AS
SELECT
  x.day, x.endpoint, x.model, x.requests, x.attempts, x.input_tokens, x.cache_write_tokens,
  x.cache_write_5m_tokens, x.cache_write_1h_tokens, x.cache_read_tokens, x.output_tokens,
  x.thinking_tokens, x.web_search_requests, x.cost_pico_usd, x.in_doubt_low_pico_usd,
  x.in_doubt_high_pico_usd, x.in_doubt_unbounded, x.unpriced_requests, x.assumed_requests,
  x.assumed_low_pico_usd, x.assumed_high_pico_usd,
  x.cost_pico_usd / 1e12 AS cost_usd,
  x.in_doubt_low_pico_usd / 1e12 AS in_doubt_low_usd,
  x.in_doubt_high_pico_usd / 1e12 AS in_doubt_high_usd,
  x.assumed_low_pico_usd / 1e12 AS assumed_low_usd,
  x.assumed_high_pico_usd / 1e12 AS assumed_high_usd
FROM (
SELECT
  strftime('%Y-%m-%d', COALESCE(t.sent_at, t.opened_at) / 1000000, 'unixepoch') AS day, i.endpoint, COALESCE(a.model, t.requested_model) AS model,
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
    ELSE CAST(SUM((SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1)) AS bigint) END AS cost_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_low END), 0) AS bigint)
    AS in_doubt_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_high END), 0) AS bigint)
    AS in_doubt_high_pico_usd,
  COUNT(CASE WHEN a.attempt_id IS NULL AND t.cost_high IS NULL THEN 1 END)
    AS in_doubt_unbounded,
  COUNT(DISTINCT CASE WHEN (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) IN (1, 2, 3) THEN NULL
    ELSE a.request_id END) AS unpriced_requests,
  COUNT(DISTINCT CASE WHEN EXISTS (SELECT 1 FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed')
    THEN a.request_id END) AS assumed_requests,
  CAST(COALESCE(SUM((SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed')), 0) AS bigint)
    AS assumed_low_pico_usd,
  CAST(COALESCE(SUM((SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed')), 0) AS bigint)
    AS assumed_high_pico_usd
FROM attempts t
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN answers a ON a.attempt_id = t.attempt_id AND t.state <> 'partial'
GROUP BY 1, 2, 3
) x;
