-- SPDX-License-Identifier: BSD-2-Clause
-- An in-memory database with indexes: built, queried, changed, and checked.
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, place INTEGER, note TEXT);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 75000)
INSERT INTO item
SELECT i, 'item ' || (i * 7919 % 1000003), i * 31 % 9973, 'a note about item ' || i || ' in place ' || (i * 31 % 9973)
FROM n;
CREATE INDEX item_name ON item (name);
CREATE INDEX item_place ON item (place, name);
SELECT count(*), sum(place), min(name), max(name) FROM item;
SELECT place, count(*), min(name), max(note) FROM item WHERE place BETWEEN 4000 AND 4020 GROUP BY place;
SELECT count(*) FROM item a JOIN item b ON b.name = 'item ' || a.id WHERE a.id % 7 = 0;
UPDATE item SET note = note || '!' WHERE place < 500;
DELETE FROM item WHERE id % 11 = 3;
SELECT count(*), sum(length(note)) FROM item;
SELECT name, note FROM item WHERE id % 997 = 0 ORDER BY name;
PRAGMA integrity_check;
