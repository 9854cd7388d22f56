// Package archive moves what a service has from one store to another, whatever
// kinds these are, by way of a file of JSON lines:
//
//	{"kind":"header","format":1,"version":"hubbub …","store":"a standalone server","time":"…"}
//	{"kind":"used_token","id":"…","until":"…"}
//	{"kind":"key","key":"chat_tokens","secret":"…"}
//	{"kind":"resource","key":"us-west-2.123456789012.room.AbCdEf123456","value":{…}}
//	{"kind":"log_batch","readers":["us-west-2.123456789012.…"],"records":3,"data":"…"}
//	{"kind":"end","keys":1,"resources":1,…,"resources_sha256":"…","sha256":"…"}
//
// In this order: a store that has the keys and a room has what was used of its
// tokens. Keys and resources go by key, batches as they were written. The checksum of the resources is over their lines alone, and those
// have nothing but what an API call has set: it is the same for every store that
// has the same resources. The other one is over all lines before it, so that a
// file that was cut off or altered is refused before anything of it is used.
//
// Store.Export writes an archive of an open store, Store.Import puts one into an
// empty store, and Read goes through one and checks it.
package archive
